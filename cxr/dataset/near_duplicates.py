"""Images that are copies of one another although their bytes differ: re-encoded, resized, brightened or cropped.

Perceptual hashes find candidates, pixels decide. Two images are candidates if the hash of one is within `MAX_DISTANCE`
bits of the hash of the other, or of a crop of the other. A candidate pair is verified by aligning one image with the
other (OpenCV's ECC, an affine alignment that is insensitive to brightness and contrast): first on 64 px thumbnails,
then, for the few pairs that are similar there, at 256 px, where the fine texture has to correlate too. Chests have
similar outlines; texture between 1.5 and 6 px is specific to an image.

Why these numbers: in the Kaggle set (5,856 images) the texture of two different images never correlates above 0.81, and
the texture of a copy (JPEG quality 15, half size, gamma 1.3, crops up to 5%) never below 0.94. The images of a
verified pair stay in one fold; no claim is made that they are of one patient.
"""

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr.images.vitals import CROPS_PX
from cxr.storage.image_arrays import ImageArrays

log = logging.getLogger(__name__)

MAX_DISTANCE = 6
MIN_CORRELATION = 0.9
MIN_COARSE_CORRELATION = 0.98
"""Of thumbnails; copies reach 0.99."""
COLUMNS = [
    "path_a",
    "path_b",
    "image_id_a",
    "image_id_b",
    "label_a",
    "label_b",
    "distance",
    "coarse_correlation",
    "correlation",
    "verified",
]
ITERATIONS = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 50, 1e-4)
BLUR_PX = 5
TEXTURE_PX = (1.5, 6.0)
MIN_OVERLAP = 0.5


def find_near_duplicates(
    manifest: pd.DataFrame, thumbnails: ImageArrays, read_square: Callable[[str, str], NDArray[np.uint8]]
) -> pd.DataFrame:
    """Return one row per candidate pair among the used images, best correlation first.

    Columns: path, image_id and label of both (a before b by path), distance (in bits, the smallest of the hashes
    compared), coarse_correlation (of thumbnails), correlation (of texture at 256 px; NaN where the thumbnails differ
    already), verified.

    Args:
        manifest: with the vital signs.
        thumbnails: holds a thumbnail of each used image.
        read_square: returns an image as a grey square of 256 px, given its path and image_id.
    """
    images = manifest[manifest["status"] == "used"].sort_values("path")
    images = images.drop_duplicates("image_id").reset_index(drop=True)
    a, b, distance = _candidates(images)
    image_ids = images["image_id"].to_numpy()
    needed = np.unique(np.concatenate([a, b]))
    pictures = dict(zip(needed.tolist(), thumbnails.load(image_ids[needed].tolist()), strict=True))
    coarse = _correlate([(pictures[i], pictures[j]) for i, j in zip(a.tolist(), b.tolist(), strict=True)])
    correlation = np.full(len(a), np.nan)
    close = np.flatnonzero(coarse >= MIN_COARSE_CORRELATION)
    correlation[close] = _correlate_in_full(images, a[close], b[close], read_square)
    sides = {
        f"{name}_{side}": images[name].to_numpy()[rows]
        for name in ("path", "image_id", "label")
        for side, rows in (("a", a), ("b", b))
    }
    pairs = pd.DataFrame(sides).assign(
        distance=distance,
        coarse_correlation=coarse,
        correlation=correlation,
        verified=np.nan_to_num(correlation) >= MIN_CORRELATION,
    )
    log.info("near-duplicates: %d candidate pairs, %d verified", len(pairs), pairs["verified"].sum())
    return pairs[COLUMNS].sort_values(
        ["verified", "correlation", "coarse_correlation"], ascending=False, ignore_index=True
    )


def _correlate_in_full(
    images: pd.DataFrame,
    a: NDArray[np.int64],
    b: NDArray[np.int64],
    read_square: Callable[[str, str], NDArray[np.uint8]],
) -> NDArray[np.float64]:
    """Return the correlation of the texture of each pair of rows, shape (n,); each image is read once."""
    squares = {
        i: read_square(images["path"][i], images["image_id"][i]) for i in np.unique(np.concatenate([a, b])).tolist()
    }
    return _correlate([(squares[i], squares[j]) for i, j in zip(a, b, strict=True)], texture=True)


def _candidates(images: pd.DataFrame) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows a < b of each candidate pair and their distance in bits."""
    hashes = [np.array([int(text, 16) for text in images[name]], dtype=np.uint64) for name in CROPS_PX]
    found = [np.empty((3, 0), dtype=np.int64), *_close_pairs(hashes)]
    a, b, distance = np.concatenate(found, axis=1)
    return a, b, distance


def _close_pairs(hashes: list[NDArray[np.uint64]]) -> Iterator[NDArray[np.int64]]:
    """Yield, image by image, an array (3, n): the image, later images close to it, and their distances."""
    whole = hashes[0]
    for row in range(len(whole)):
        distance = np.bitwise_count(whole[row] ^ whole[row + 1 :])
        for crop in hashes[1:]:
            np.minimum(distance, np.bitwise_count(whole[row] ^ crop[row + 1 :]), out=distance)
            np.minimum(distance, np.bitwise_count(crop[row] ^ whole[row + 1 :]), out=distance)
        close = np.flatnonzero(distance <= MAX_DISTANCE)
        yield np.stack([np.full(len(close), row), row + 1 + close, distance[close]]).astype(np.int64)


def _correlate(
    pairs: list[tuple[NDArray[np.uint8], NDArray[np.uint8]]], *, texture: bool = False
) -> NDArray[np.float64]:
    compare = correlate_texture if texture else correlate_aligned
    with ThreadPoolExecutor() as pool:  # OpenCV releases the GIL
        return np.fromiter(pool.map(lambda pair: compare(*pair), pairs), np.float64, len(pairs))


def correlate_aligned(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Return the correlation of two squares, -1 to 1, after aligning b with a; 0 if they cannot be aligned."""
    return _align(a, b)[0]


def correlate_texture(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Return the correlation of the squares' texture, -1 to 1, after aligning b with a; 0 if they hardly overlap."""
    _, warp = _align(a, b)
    shape = a.shape[::-1]
    aligned = np.asarray(cv2.warpAffine(b, warp, shape, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP), np.uint8)
    cover = cv2.warpAffine(np.full_like(b, 255), warp, shape, flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP)
    margin_px = 2 * round(TEXTURE_PX[1]) + 1
    inside = cv2.erode(cover, np.ones((margin_px, margin_px), np.uint8)) == 255
    if inside.mean() < MIN_OVERLAP:
        return 0.0
    texture_a = _texture(a)[inside]
    texture_b = _texture(aligned)[inside]
    has_contrast = texture_a.std() * texture_b.std() > 0
    return float(np.corrcoef(texture_a, texture_b)[0, 1]) if has_contrast else 0.0


def _texture(square: NDArray[np.uint8]) -> NDArray[np.float32]:
    grey = square.astype(np.float32)
    fine, coarse = (cv2.GaussianBlur(grey, (0, 0), px) for px in TEXTURE_PX)
    return (fine - coarse).astype(np.float32)


def _align(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> tuple[float, NDArray[np.float32]]:
    """Return the correlation of two squares after aligning b with a, and the affine map from a to b, shape (2, 3).

    Source: Evangelidis & Psarakis, Parametric image alignment using enhanced correlation coefficient
    maximization, IEEE TPAMI 2008.
    """
    warp = np.eye(2, 3, dtype=np.float32)
    everywhere = np.full_like(a, 255)
    try:
        correlation, warp = cv2.findTransformECC(a, b, warp, cv2.MOTION_AFFINE, ITERATIONS, everywhere, BLUR_PX)
    except cv2.error:  # no overlap, or no contrast
        return 0.0, np.eye(2, 3, dtype=np.float32)
    return correlation, warp.astype(np.float32)


def verified_pairs(near_duplicates: pd.DataFrame) -> list[tuple[str, str]]:
    """Return the two image_ids of each verified pair."""
    verified = near_duplicates[near_duplicates["verified"]]
    return list(zip(verified["image_id_a"], verified["image_id_b"], strict=True))
