"""An image's vital signs: what can be measured of its pixels without a model.

They are measured when an image is first decoded, on the image stretched to 256 px, and kept in `cache/` with a 64 px
thumbnail, keyed by the image's content. Brightness, contrast, border and colour distinguish a radiograph from a blank
image or a photograph, and one scanner from another. Three perceptual hashes, of the whole image and of two crops of it,
find copies that were re-encoded, resized or slightly cropped (see `cxr.dataset.near_duplicates`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxr.images.decoding import DECODED_PX, DECODER, Picture, stretch
from cxr.storage.cache_folder import CacheFolder
from cxr.storage.image_arrays import ImageArrays

VERSION = f"v1-{DECODER}"
"""Part of the cache's key: change it whenever the measurements change."""
THUMBNAIL_PX = 64
DARK, BRIGHT = 5, 250
BORDER_SHARE = 0.05
SAME_IMAGE_BITS = 20
"""Two images are the same if their fingerprints differ in at most this many bits."""
CROPS_PX = {"phash": 0, "phash_crop_2": 5, "phash_crop_4": 10}
"""Pixels cropped from each side (0, 2 and 4%), by the column that holds the hash."""


@dataclass(frozen=True)
class Levels:
    """Statistics of a square's grey levels: levels from 0 to 255, shares from 0 to 1."""

    mean: float
    contrast: float
    """Standard deviation of the grey levels."""
    border: float
    """Mean grey level of a frame whose width is a twentieth of the side."""
    dark_share: float
    """Share of pixels at 5 or below."""
    bright_share: float
    """Share of pixels at 250 or above."""


@dataclass(frozen=True)
class Vitals(Levels):
    """Measurements of an image."""

    chroma: float
    """Mean distance from grey, in levels."""
    phash: str
    """64-bit perceptual hash of the whole image, in hexadecimal."""
    phash_crop_2: str
    phash_crop_4: str


def measure(picture: Picture) -> tuple[Vitals, NDArray[np.uint8]]:
    """Return an image's vital signs and its thumbnail, shape (64, 64)."""
    square = stretch(picture.grey, DECODED_PX)
    image = Image.fromarray(square)
    facts: dict[str, Any] = vars(measure_levels(square)) | {"chroma": picture.chroma}
    facts |= {name: _hash(image, crop_px) for name, crop_px in CROPS_PX.items()}
    vitals = Vitals(**facts)
    return vitals, np.asarray(image.resize((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.BOX))


def measure_levels(square: NDArray[np.uint8]) -> Levels:
    """Return the statistics of a square's grey levels, from its histogram and the sum of its border.

    Args:
        square: shape (size, size).
    """
    counts = np.bincount(square.ravel(), minlength=256)
    level = np.arange(256)
    mean = counts @ level / square.size
    edge = round(len(square) * BORDER_SHARE)
    inner = square[edge:-edge, edge:-edge]
    return Levels(
        mean=float(mean),
        contrast=float(np.sqrt(counts @ (level - mean) ** 2 / square.size)),
        border=float((counts @ level - inner.sum(dtype=np.int64)) / (square.size - inner.size)),
        dark_share=float(counts[: DARK + 1].sum() / square.size),
        bright_share=float(counts[BRIGHT:].sum() / square.size),
    )


def fingerprint(square: NDArray[np.uint8]) -> str:
    """Return a 256-bit perceptual hash of a square, shape (size, size), in hexadecimal.

    Re-encoding or rescaling an image changes at most 8 bits; the hashes of two different images differ in 42 or more
    (120 originals against 5,856 images of 224 px). `SAME_IMAGE_BITS` is between the two.
    """
    return str(imagehash.phash(Image.fromarray(square), hash_size=16))


def fingerprint_bits(fingerprints: Sequence[str]) -> NDArray[np.uint64]:
    """Return fingerprints as rows of 64-bit words, shape (n, 4)."""
    return np.frombuffer(bytes.fromhex("".join(fingerprints)), dtype=np.uint64).reshape(len(fingerprints), -1)


def are_same_image(bits: NDArray[np.uint64], known: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Return, for each fingerprint, whether any of the known fingerprints is of the same image, shape (n,).

    Args:
        bits: shape (n, 4), as `fingerprint_bits` returns them.
        known: shape (m, 4), at least one row.
    """
    nearest = [int(np.bitwise_count(known ^ words).sum(axis=1).min()) for words in bits]
    return np.array(nearest, dtype=int) <= SAME_IMAGE_BITS


def _hash(image: Image.Image, crop_px: int) -> str:
    return str(imagehash.phash(image.crop((crop_px, crop_px, image.width - crop_px, image.height - crop_px))))


def open_vitals(cache: Path) -> ImageArrays:
    """Return the cache of thumbnails, each of shape (64, 64), with vital signs as facts."""
    return ImageArrays(CacheFolder(cache).vitals(VERSION), (THUMBNAIL_PX, THUMBNAIL_PX), np.uint8)
