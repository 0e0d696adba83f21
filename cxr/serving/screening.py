"""Files offered to a model: read, and refused where a prediction would mean nothing.

`cxr.images.reading` decides what an image is. Two refusals are added here: a blank image and a colour photograph are
images, but no radiographs; and what is plainly another file, such as a table, is named so. An accepted image is
measured, so that drift and copies of training images can be found.
"""

import io
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxr.config import BLANK_CONTRAST, PHOTOGRAPH_CHROMA
from cxr.errors import DataError, UnreadableError
from cxr.images.inbox import Arrival, read_arrival
from cxr.images.other_files import as_other_file
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
        refused = reading.refused and as_other_file(reading.refused, arrival.path, data)
        return FileReading(arrival, reading.image_id, refused=refused)
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


def examine_array(position: int, array: NDArray[Any], size: int) -> FileReading:
    """Return what a grey array in memory holds: as a PNG file with the same pixels, but without the hash of a file.

    Args:
        position: of the array among those that are predicted; it becomes the path.
        array: shape (height, width), uint8, uint16 or floats.
        size: side of the model's squares, in pixels.

    Raises:
        DataError: the array has another type or shape, or values that are not finite.
    """
    pixels = _as_pixels(position, np.asarray(array))
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", compress_level=0)
    arrival = Arrival(str(position), "", array.nbytes, 0)
    return replace(examine_image(arrival, stream.getvalue(), size), image_id=None)


def _as_pixels(position: int, array: NDArray[Any]) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Return an array as the pixels of a PNG file; floats are stretched over all values of uint16."""
    if array.ndim != 2 or array.size == 0:
        raise DataError(f"array {position} has shape {array.shape}: give grey images of shape (height, width).")
    kind = array.dtype.newbyteorder("=")
    if kind in (np.uint8, np.uint16):
        return array.astype(kind, copy=False)
    if kind not in (np.float16, np.float32, np.float64):
        raise DataError(
            f"array {position} has type {array.dtype}: give uint8, uint16, or floats (array.astype(float))."
        )
    values = array.astype(np.float64)
    if not np.isfinite(values).all():
        raise DataError(f"array {position} has values that are not finite: replace them, as np.nan_to_num does.")
    low, high = values.min(), values.max()
    return ((values - low) * (65535.0 / ((high - low) or 1.0))).round().astype(np.uint16)


def _refusal(chroma: float, contrast: float) -> UnreadableError | None:
    """Return why an image is no radiograph; None if it may be one."""
    if chroma > PHOTOGRAPH_CHROMA:
        return UnreadableError(
            "colour_photograph",
            f"on average its pixels are {chroma:.0f} levels away from grey; at most {PHOTOGRAPH_CHROMA:g} are allowed",
        )
    if contrast < BLANK_CONTRAST:
        return UnreadableError(
            "blank",
            f"the standard deviation of its grey levels is {contrast:.1f}; at least {BLANK_CONTRAST:g} is needed",
        )
    return None
