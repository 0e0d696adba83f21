"""What an image is: the one reader that training, scoring and the page share.

Bytes become a content hash, a header and a grey square, or the reason why they are not an image. The manifest of a data
set adds patient ids and the cache (`cxr.dataset.manifest`); scoring adds two refusals and measurements
(`cxr.serving.screening`).
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxr.errors import UnreadableError
from cxr.images.decoding import Header, Picture, open_image, stretch


@dataclass(frozen=True)
class Reading:
    """What bytes hold: an image, or the reason why they are not one."""

    image_id: str
    """SHA-256 of the bytes, in hexadecimal."""
    header: Header | None = None
    """None if it cannot be parsed."""
    picture: Picture | None = None
    """None if the image was refused, or its pixels were not needed."""
    square: NDArray[np.uint8] | None = None
    """The picture stretched to shape (size, size); None without a picture or a size."""
    refused: UnreadableError | None = None


def image_id_of(data: bytes) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def read(data: bytes, size: int | None, *, needs_pixels: Callable[[str], bool] | None = None) -> Reading:
    """Return what the bytes hold; the header is parsed once.

    A shortage of memory says nothing about an image: it is a reason of its own, and the image is to be read again.

    Args:
        data: the bytes of a JPEG, PNG or DICOM file.
        size: side of the square, in pixels; None for no square.
        needs_pixels: whether to decode an image with this image_id, asked once its header is known to be good; None
            for always.
    """
    image_id = image_id_of(data)
    header = None
    try:
        image = open_image(data)
        header = image.header
        if needs_pixels is not None and not needs_pixels(image_id):
            return Reading(image_id, header)
        picture = image.decode(size or 0)
        return Reading(image_id, header, picture, stretch(picture.grey, size) if size else None)
    except UnreadableError as error:
        return Reading(image_id, header, refused=error)
    except MemoryError:
        return Reading(image_id, header, refused=UnreadableError("short_of_memory", "this machine could not decode it"))
