"""A film's vital signs: what its pixels say before any model looks at them.

Measured when a film is first decoded, on the film stretched to 256 px, and kept in `cache/` with a 64 px
thumbnail, keyed by the film's content. Brightness, contrast, border and colour tell a blank film or a
photograph from a radiograph and one scanner from another. Three perceptual hashes, of the whole film and
of two crops of it, find copies that were re-encoded, resized or slightly cropped (see `near_duplicates`).
"""

from dataclasses import dataclass
from pathlib import Path

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxr.film_arrays import FilmArrays
from cxr.images import DECODED_PX, DECODER, Picture, stretch

VERSION = f"v1-{DECODER}"
"""Part of the cache's key: change it with what is measured."""
THUMBNAIL_PX = 64
DARK, BRIGHT = 5, 250
BORDER_PX = 13
"""A twentieth of the side."""
CROPS_PX = {"phash": 0, "phash_crop_2": 5, "phash_crop_4": 10}
"""Pixels left out on each side, 0, 2 and 4 %, by the column that holds the hash."""


@dataclass(frozen=True)
class Vitals:
    """What is measured; grey levels run from 0 to 255, shares from 0 to 1."""

    mean: float
    contrast: float
    """Standard deviation of the grey levels."""
    border: float
    """Mean grey level of the outer twentieth."""
    dark_share: float
    """Share of pixels at 5 or below."""
    bright_share: float
    """Share of pixels at 250 or above."""
    chroma: float
    """Mean distance from grey."""
    phash: str
    """64-bit perceptual hash of the whole film, in hexadecimal."""
    phash_crop_2: str
    phash_crop_4: str


def measure(picture: Picture) -> tuple[Vitals, NDArray[np.uint8]]:
    """Return a film's vital signs and its thumbnail, shape (64, 64)."""
    square = stretch(picture.grey, DECODED_PX)
    inner = square[BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX]
    image = Image.fromarray(square)
    vitals = Vitals(
        mean=float(square.mean()),
        contrast=float(square.std()),
        border=float((square.sum(dtype=np.int64) - inner.sum(dtype=np.int64)) / (square.size - inner.size)),
        dark_share=float((square <= DARK).mean()),
        bright_share=float((square >= BRIGHT).mean()),
        chroma=picture.chroma,
        **{name: _hash(image, crop_px) for name, crop_px in CROPS_PX.items()},
    )
    return vitals, np.asarray(image.resize((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.BOX))


def _hash(image: Image.Image, crop_px: int) -> str:
    return str(imagehash.phash(image.crop((crop_px, crop_px, image.width - crop_px, image.height - crop_px))))


def open_vitals(cache: Path) -> FilmArrays:
    """Return the store of thumbnails and vital signs."""
    return FilmArrays(cache / "vitals" / VERSION, (THUMBNAIL_PX, THUMBNAIL_PX), np.uint8)
