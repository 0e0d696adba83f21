"""One image from a file to a grey square and its measures, or to the reason why not."""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxr.config import BLANK_CONTRAST, PHOTOGRAPH_CHROMA
from cxr.errors import UnreadableError
from cxr.images.decoding import decode_image, read_header, stretch
from cxr.images.inbox import Arrival, read_arrival
from cxr.images.vitals import Levels, fingerprint, measure_levels


@dataclass(frozen=True)
class Reading:
    """What a file gave: an image's square and measures, or why it is none."""

    arrival: Arrival
    image_id: str | None = None
    square: NDArray[np.uint8] | None = None
    width: int | None = None
    height: int | None = None
    levels: Levels | None = None
    chroma: float | None = None
    fingerprint: str | None = None
    refused: UnreadableError | None = None

    @property
    def is_changing(self) -> bool:
        """Tell whether the file is being written, so that it waits for the next scoring run."""
        return self.refused is not None and self.refused.reason == "changed_while_read"

    @property
    def measures(self) -> dict[str, object]:
        """What was measured of the image, under the names of the scores' columns."""
        sizes = {"width": self.width, "height": self.height, "chroma": self.chroma}
        return sizes | (vars(self.levels) if self.levels else {})


def read_image(arrival: Arrival, size: int) -> Reading:
    """Return what a file holds; what cannot be used has a reason and, where it could be decoded, no square."""
    try:
        data = read_arrival(arrival)
    except UnreadableError as error:
        return Reading(arrival, refused=error)
    return examine_image(arrival, data, size)


def examine_image(arrival: Arrival, data: bytes, size: int) -> Reading:
    """Return what bytes hold, as `read_image` does for a file's."""
    image_id = hashlib.sha256(data).hexdigest()
    try:
        header = read_header(data)
        picture = decode_image(data, size)
        square = stretch(picture.grey, size)
        levels = measure_levels(square)
        if picture.chroma > PHOTOGRAPH_CHROMA:
            raise UnreadableError(
                "colour_photograph", f"{picture.chroma:.0f} levels from grey, at most {PHOTOGRAPH_CHROMA:g}"
            )
        if levels.contrast < BLANK_CONTRAST:
            raise UnreadableError(
                "blank", f"its grey levels spread by {levels.contrast:.1f}, at least {BLANK_CONTRAST:g}"
            )
    except UnreadableError as error:
        return Reading(arrival, image_id, refused=error)
    return Reading(arrival, image_id, square, header.width, header.height, levels, picture.chroma, fingerprint(square))
