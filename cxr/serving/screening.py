"""Files offered to a model: read, and refused where a prediction would mean nothing.

`cxr.images.reading` decides what an image is. Two refusals are added here: a blank image and a colour photograph are
images, but no radiographs. An accepted image is measured, so that drift and copies of training images can be found.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxr.config import BLANK_CONTRAST, PHOTOGRAPH_CHROMA
from cxr.errors import UnreadableError
from cxr.images.inbox import Arrival, read_arrival
from cxr.images.reading import read
from cxr.images.vitals import Levels, fingerprint, measure_levels


@dataclass(frozen=True)
class FileReading:
    """What a file gave: an image's square and measurements, or the reason why it was refused."""

    arrival: Arrival
    image_id: str | None = None
    """None if the file could not be read."""
    square: NDArray[np.uint8] | None = None
    """Shape (size, size); this and what follows is None if the file was refused."""
    width: int | None = None
    height: int | None = None
    levels: Levels | None = None
    chroma: float | None = None
    fingerprint: str | None = None
    refused: UnreadableError | None = None

    @property
    def is_changing(self) -> bool:
        """Whether the file is being written, so that it waits for the next scoring run."""
        return self.refused is not None and self.refused.reason == "changed_while_read"

    @property
    def measures(self) -> dict[str, object]:
        """The image's measurements, under the names of the scores' columns."""
        sizes = {"width": self.width, "height": self.height, "chroma": self.chroma}
        return sizes | (vars(self.levels) if self.levels else {})


def read_image(arrival: Arrival, size: int) -> FileReading:
    """Return what a file holds.

    Args:
        arrival: the file.
        size: side of the model's squares, in pixels.
    """
    try:
        data = read_arrival(arrival)
    except UnreadableError as error:
        return FileReading(arrival, refused=error)
    return examine_image(arrival, data, size)


def examine_image(arrival: Arrival, data: bytes, size: int) -> FileReading:
    """Return what bytes hold, as `read_image` does for a file's."""
    reading = read(data, size)
    header, picture, square = reading.header, reading.picture, reading.square
    if header is None or picture is None or square is None:
        return FileReading(arrival, reading.image_id, refused=reading.refused)
    levels = measure_levels(square)
    refused = _refusal(picture.chroma, levels.contrast)
    if refused:
        return FileReading(arrival, reading.image_id, refused=refused)
    return FileReading(
        arrival,
        reading.image_id,
        square,
        header.width,
        header.height,
        levels,
        picture.chroma,
        fingerprint(square),
    )


def _refusal(chroma: float, contrast: float) -> UnreadableError | None:
    """Return why an image is no radiograph; None if it may be one."""
    if chroma > PHOTOGRAPH_CHROMA:
        return UnreadableError("colour_photograph", f"{chroma:.0f} levels from grey, at most {PHOTOGRAPH_CHROMA:g}")
    if contrast < BLANK_CONTRAST:
        return UnreadableError("blank", f"its grey levels spread by {contrast:.1f}, at least {BLANK_CONTRAST:g}")
    return None
