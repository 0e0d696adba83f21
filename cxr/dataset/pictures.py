"""Pictures of a data set's images, read again from where they lie."""

import hashlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cxr.config import DataConfig
from cxr.errors import DataError
from cxr.images.decoding import Picture, decode_image, stretch
from cxr.images.source import list_images, open_source


def read_pictures(config: DataConfig, least_px: int) -> Callable[[str, str], Picture]:
    """Return a function from an image's path and image_id to the image, decoded at `least_px` or more.

    The function raises DataError where the image is gone or was changed since it was examined.
    """
    source = open_source(config.data)
    keys = {image.path: image.key for image in list_images(source).images}

    def read(path: str, image_id: str) -> Picture:
        try:
            data = source.read(keys[path])
        except (KeyError, OSError):
            data = b""
        if hashlib.sha256(data).hexdigest() != image_id:
            raise DataError(f"image {path!r} in {config.data!r} is gone or was changed since the run was begun.")
        return decode_image(data, least_px)

    return read


def read_squares(config: DataConfig, size: int) -> Callable[[str, str], NDArray[np.uint8]]:
    """Return a function from an image's path and image_id to its grey square, shape (size, size)."""
    read = read_pictures(config, size)
    return lambda path, image_id: stretch(read(path, image_id).grey, size)
