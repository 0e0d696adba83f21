"""Pictures of a data set's films, read again from where they lie."""

import hashlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cxr.config import DataConfig
from cxr.errors import DataError
from cxr.images.decoding import Picture, decode_film, stretch
from cxr.images.source import list_films, open_source


def read_pictures(config: DataConfig, least_px: int) -> Callable[[str, str], Picture]:
    """Return a function from a film's path and image_id to the film, decoded at `least_px` or more.

    The function raises DataError where the film is gone or was changed since it was examined.
    """
    source = open_source(config.data)
    keys = {film.path: film.key for film in list_films(source).films}

    def read(path: str, image_id: str) -> Picture:
        try:
            data = source.read(keys[path])
        except (KeyError, OSError):
            data = b""
        if hashlib.sha256(data).hexdigest() != image_id:
            raise DataError(f"film {path!r} in {config.data!r} is gone or was changed since the run was begun.")
        return decode_film(data, least_px)

    return read


def read_squares(config: DataConfig, size: int) -> Callable[[str, str], NDArray[np.uint8]]:
    """Return a function from a film's path and image_id to its grey square, shape (size, size)."""
    read = read_pictures(config, size)
    return lambda path, image_id: stretch(read(path, image_id).grey, size)
