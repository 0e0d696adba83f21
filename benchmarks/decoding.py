"""Decoding: libjpeg's scaled decoding against full decoding, in images per second and in grey levels.

python -m benchmarks.decoding --data originals.zip
"""

import argparse
import io
import statistics
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.results import keep
from cxr.dataset.listing.layout import list_images
from cxr.images.decoding import decode_square, stretch
from cxr.images.source import open_source

SIZE = 224


def main() -> None:
    """Time both on one core, in turn; compare their results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    source = open_source(arguments.data)
    images = [source.read(image.key) for image in list_images(source).images]
    ways = {"scaled": lambda image: decode_square(image, SIZE), "whole": _decode_whole}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(arguments.repeats):
        for name, way in ways.items():
            seconds[name].append(_timed(images, way))
    difference = np.abs(np.stack([ways["scaled"](image).astype(int) - ways["whole"](image) for image in images]))
    figures = {
        "n_images": len(images),
        "scaled, images/s": round(len(images) / statistics.median(seconds["scaled"])),
        "whole, images/s": round(len(images) / statistics.median(seconds["whole"])),
        "scaled / whole": round(statistics.median(np.divide(seconds["whole"], seconds["scaled"]).tolist()), 2),
        "mean difference, grey levels": round(float(difference.mean()), 2),
        "largest mean difference of an image": round(float(difference.mean(axis=(1, 2)).max()), 2),
        "99.9% of pixels differ by at most": float(np.quantile(difference, 0.999)),
    }
    keep("decoding", figures)


def _decode_whole(image: bytes) -> NDArray[np.uint8]:
    return stretch(Image.open(io.BytesIO(image)).convert("L"), SIZE)


def _timed(images: list[bytes], way: Callable[[bytes], object]) -> float:
    start = time.perf_counter()
    for image in images:
        way(image)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
