"""Recall, by kind, and precision of the near-duplicate search, on planted copies.

    python -m benchmarks.near_duplicates --data chest_xray.zip

Copies of images are changed, re-encoded and planted under another patient's name among all images of the set. Every
other pair that is verified counts as a false positive.
"""

import argparse
import io
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.results import keep
from cxr.config import DataConfig
from cxr.dataset.examination import examine
from cxr.dataset.listing.layout import list_images
from cxr.images.source import open_source
from cxr.storage import files
from cxr.storage.run_folder import RunFolder

PER_KIND = 50


def _crop(image: Image.Image, left: float, top: float, right: float, bottom: float) -> Image.Image:
    w, h = image.size
    return image.crop((round(w * left), round(h * top), w - round(w * right), h - round(h * bottom)))


def _levels(image: Image.Image, change) -> Image.Image:
    return image.point([int(np.clip(change(level), 0, 255)) for level in range(256)])


KINDS = {
    "JPEG quality 40": (40, lambda image: image),
    "JPEG quality 15": (15, lambda image: image),
    "half the size": (75, lambda image: image.resize((image.width // 2, image.height // 2))),
    "1.5 times the size": (75, lambda image: image.resize((image.width * 3 // 2, image.height * 3 // 2))),
    "brighter by 30 levels": (75, lambda image: _levels(image, lambda v: v + 30)),
    "contrast × 0.8": (75, lambda image: _levels(image, lambda v: v * 0.8)),
    "gamma 1.3": (75, lambda image: _levels(image, lambda v: 255 * (v / 255) ** 1.3)),
    "cropped 1% a side": (75, lambda image: _crop(image, 0.01, 0.01, 0.01, 0.01)),
    "cropped 2% a side": (75, lambda image: _crop(image, 0.02, 0.02, 0.02, 0.02)),
    "cropped 4% a side": (75, lambda image: _crop(image, 0.04, 0.04, 0.04, 0.04)),
    "cropped 3% left and top": (75, lambda image: _crop(image, 0.03, 0.03, 0, 0)),
    "cropped 2%, smaller, brighter": (
        60,
        lambda image: _levels(_crop(image, 0.02, 0.02, 0.02, 0.02).resize((180, 180)), lambda v: v + 15),
    ),
}


def main() -> None:
    """Plant, search, count."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    data = parser.parse_args().data
    with tempfile.TemporaryDirectory() as scratch:
        planted = _plant(data, Path(scratch) / "images")
        start = time.monotonic()
        folder = RunFolder(Path(scratch) / "run")
        examine(DataConfig(data=str(Path(scratch) / "images")), folder, cache=Path(scratch) / "cache")
        seconds = time.monotonic() - start
        table = files.read_table(folder.near_duplicates)
    verified = {frozenset(pair) for pair in table.loc[table["verified"], ["path_a", "path_b"]].to_numpy().tolist()}
    found = {kind: sum(pair in verified for pair in pairs) for kind, pairs in planted.items()}
    everything = {pair for pairs in planted.values() for pair in pairs}
    recall, precision = sum(found.values()) / len(everything), len(verified & everything) / max(len(verified), 1)
    figures = {
        "recall": round(recall, 3),
        "precision": round(precision, 3),
        "n_planted": len(everything),
        "n_verified": len(verified),
        "n_candidates": len(table),
        "seconds, decoding included": round(seconds, 1),
    }
    keep("near_duplicates", figures | {f"found of {PER_KIND}: {kind}": n_found for kind, n_found in found.items()})


def _plant(data: str, root: Path) -> dict[str, list[frozenset[str]]]:
    """Write all images of the set, and the changed copies; return the planted pairs by kind."""
    source = open_source(data)
    images = list_images(source).images
    content = {image.path: source.read(image.key) for image in images}
    first = {data: path for path, data in reversed(content.items())}  # the first path of each content
    chosen = np.random.default_rng(0).choice(sorted(first.values()), PER_KIND * len(KINDS), replace=False).tolist()
    for path, image in content.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(image)
    planted: dict[str, list[frozenset[str]]] = {}
    for number, path in enumerate(chosen):
        kind = list(KINDS)[number // PER_KIND]
        quality, change = KINDS[kind]
        copy = f"{path.rpartition('/')[0]}/person{90_000 + number}_bacteria_1.jpeg"
        stream = io.BytesIO()
        change(Image.open(io.BytesIO(content[path])).convert("L")).save(stream, "JPEG", quality=quality)
        (root / copy).write_bytes(stream.getvalue())
        planted.setdefault(kind, []).append(frozenset((path, copy)))
    return planted


if __name__ == "__main__":
    main()
