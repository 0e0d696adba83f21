"""From a film's bytes to one grey square, and the store that keeps the squares.

A film is decoded once: libjpeg scales while it decodes (PIL's `draft`), the result is stretched to a
uint8 square and kept in `cache/`, keyed by the film's content and the square's size, for all folds and
all later runs. A film that cannot be decoded is an error with a reason, never a black square.

Source of the stretch: the whole film is kept, borders included, and the film's shape, which tells
scanners apart, is not shown to the model as empty margins.
"""

import io
import logging
import uuid
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageOps

from cxr import store

log = logging.getLogger(__name__)

DECODER = "v1"
"""Part of the cache's key: change it with `decode_square`, and films are decoded anew."""
FORMATS = ("JPEG", "PNG")
MIN_SIDE_PX = 32
MAX_PIXELS = 100_000_000


class UnreadableError(Exception):
    """The bytes are no film that can be used; the message is the reason."""


@dataclass(frozen=True)
class Header:
    """What a film's header says: size in pixels, as stored, and Pillow's mode."""

    width: int
    height: int
    mode: str


def read_header(data: bytes) -> Header:
    """Return what the header says, pixels untouched.

    Raises:
        UnreadableError: empty, no JPEG or PNG, under 32 px on a side, or over 100 million pixels.
    """
    with _open(data) as image:
        return Header(image.width, image.height, image.mode)


def decode_square(data: bytes, size: int) -> NDArray[np.uint8]:
    """Return the film as a grey square, shape (size, size).

    Grey is luma for colour films. 16-bit films are scaled by their own range, as 12-bit exports would
    be black if the top byte were taken.

    Raises:
        UnreadableError: as for `read_header`, or truncated, or damaged.
    """
    with _open(data) as image:
        try:
            image.draft("L", (2 * size, 2 * size))
            image.load()
            grey = ImageOps.exif_transpose(_to_grey(image))
            return np.asarray(grey.resize((size, size), Image.Resampling.BILINEAR))
        except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, …
            reason = "truncated" if "truncated" in str(error) else "damaged"
            raise UnreadableError(f"{reason}: {error}") from error


def _open(data: bytes) -> Image.Image:
    if not data:
        raise UnreadableError("empty: 0 bytes")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # MAX_PIXELS is the stricter rule
            image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise UnreadableError(f"too large: over {MAX_PIXELS:,} pixels") from error
    except Exception as error:
        raise UnreadableError("not an image: no JPEG or PNG header") from error
    if image.width * image.height > MAX_PIXELS:
        raise UnreadableError(f"too large: {image.width}×{image.height}, at most {MAX_PIXELS:,} pixels")
    if min(image.size) < MIN_SIDE_PX:
        raise UnreadableError(f"too small: {image.width}×{image.height}, at least {MIN_SIDE_PX} px a side")
    return image


def _to_grey(image: Image.Image) -> Image.Image:
    if not image.mode.startswith(("I", "F")):
        return image.convert("L")
    values = np.asarray(image, dtype=np.float64)
    low, high = values.min(), values.max()
    grey = Image.fromarray(((values - low) * (255.0 / max(high - low, 1.0))).round().astype(np.uint8))
    grey.info = image.info
    return grey


class PreparedImages:
    """Grey squares of one size on disk, found by film content; films are added, never changed.

    A call to `add` writes one shard: the squares as a memory-mapped `.npy` and the ids beside it. The
    ids are written last, so a shard without them was never finished and is not looked at.
    """

    def __init__(self, cache: Path, size: int) -> None:
        self.size = size
        self._folder = cache / "prepared" / DECODER / f"size={size}"
        self._place: dict[str, tuple[NDArray[np.uint8], int]] = {}
        for index in sorted(self._folder.glob("*.parquet")):
            self._open_shard(index)

    def _open_shard(self, index: Path) -> None:
        try:
            ids = store.read_table(index)["image_id"]
            squares = np.load(index.with_suffix(".npy"), mmap_mode="r")
            if squares.shape != (len(ids), self.size, self.size) or squares.dtype != np.uint8:
                raise ValueError(f"shape {squares.shape} for {len(ids)} films")
        except (OSError, ValueError, EOFError) as error:
            log.warning("prepared images in %s are damaged (%s); these films are decoded again", index, error)
            return
        self._place.update({image_id: (squares, row) for row, image_id in enumerate(ids)})

    def __contains__(self, image_id: str) -> bool:
        return image_id in self._place

    def add(self, squares: dict[str, NDArray[np.uint8]]) -> None:
        """Keep the squares, each of shape (size, size), under their films' ids."""
        if not squares:
            return
        index = self._folder / f"{uuid.uuid4().hex}.parquet"
        with store.replacing(index.with_suffix(".npy")) as temporary, temporary.open("wb") as file:
            np.save(file, np.stack(list(squares.values())))
        store.write_table(index, pd.DataFrame({"image_id": list(squares)}))
        self._open_shard(index)

    def load(self, image_ids: Sequence[str]) -> NDArray[np.uint8]:
        """Return the squares of the films in the order given, shape (n, size, size); KeyError if one is missing."""
        squares = np.empty((len(image_ids), self.size, self.size), dtype=np.uint8)
        for row, image_id in enumerate(image_ids):
            shard, place = self._place[image_id]
            squares[row] = shard[place]
        return squares
