"""Pictures of a data set's images, decoded again from the source."""

import hashlib
import logging
from collections.abc import Callable, Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from cxr.config import DataConfig
from cxr.dataset.listing.layout import Listing, list_images
from cxr.errors import DataError, UnreadableError
from cxr.images.decoding import DECODED_PX, Picture, decode_image, stretch
from cxr.images.source import Source, open_source

log = logging.getLogger(__name__)


def read_pictures(config: DataConfig, least_px: int) -> Callable[[str, str], Picture]:
    """Open a data set; return a function from an image's path and image_id to its picture.

    The function raises DataError if the image is missing or was changed since it was examined.

    Args:
        config: names the data set.
        least_px: the picture has at least this many pixels a side, if the image has as many.
    """
    source = open_source(config.data)
    if config.reads_tables:  # paths are those in the source
        return _reader(source, {key: key for key in source.sizes()}, config, least_px)
    return pictures_of(source, list_images(source, config.class_folder), config, least_px)


def find_pictures(config: DataConfig, images: Iterable[tuple[str, str]], least_px: int) -> list[Picture | None]:
    """Return the picture of each image; None, with a warning, for one that is gone, was changed or cannot be decoded.

    Args:
        config: names the data set.
        images: path and image_id of each.
        least_px: as for `read_pictures`.
    """
    read: Callable[[str, str], Picture] | None = None
    pictures: list[Picture | None] = []
    for path, image_id in images:
        try:
            read = read or read_pictures(config, least_px)
            pictures.append(read(path, image_id))
        except (DataError, UnreadableError) as error:
            log.warning("an image is not shown: %s", error)
            pictures.append(None)
    return pictures


def pictures_of(source: Source, listing: Listing, config: DataConfig, least_px: int) -> Callable[[str, str], Picture]:
    """Do what `read_pictures` does, with a source that is open and listed already."""
    return _reader(source, {image.path: image.key for image in listing.images}, config, least_px)


def _reader(
    source: Source, keys: Mapping[str, str], config: DataConfig, least_px: int
) -> Callable[[str, str], Picture]:
    """Return the function that `read_pictures` returns.

    Args:
        source: the open data set.
        keys: path in the source of each image, by its path in the manifest.
        config: names the data set.
        least_px: as for `read_pictures`.
    """

    def read(path: str, image_id: str) -> Picture:
        try:
            data = source.read(keys[path])
        except (KeyError, OSError):
            data = b""
        if hashlib.sha256(data).hexdigest() != image_id:
            raise DataError(f"image {path!r} in {config.data!r} is missing or was changed since the run was begun.")
        return decode_image(data, least_px)

    return read


def read_squares(config: DataConfig, size: int) -> Callable[[str, str], NDArray[np.uint8]]:
    """Open a data set; return a function from an image's path and image_id to its square, shape (size, size).

    The function raises DataError as for `read_pictures`.
    """
    return _stretched(read_pictures(config, size), size)


def thumbnails_of(source: Source, listing: Listing, config: DataConfig) -> Callable[[str, str], NDArray[np.uint8]]:
    """Do what `read_squares` does, with a source that is open and listed already, at the size of the vital signs."""
    return _stretched(pictures_of(source, listing, config, DECODED_PX), DECODED_PX)


def _stretched(read: Callable[[str, str], Picture], size: int) -> Callable[[str, str], NDArray[np.uint8]]:
    return lambda path, image_id: stretch(read(path, image_id).grey, size)
