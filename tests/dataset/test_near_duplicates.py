import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cxr.config import DataConfig
from cxr.dataset.examination import examine
from cxr.dataset.near_duplicates import MAX_DISTANCE, _candidates, correlate_aligned, correlate_texture
from cxr.images.synthetic import draw_images
from cxr.images.vitals import CROPS_PX
from cxr.storage import files
from cxr.storage.run_folder import RunFolder
from tests.support.shared import NewFolder

CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "re-encoded": lambda image: image,
    "half the size": lambda image: image.resize((image.width // 2, image.height // 2)),
    "larger": lambda image: image.resize((image.width * 3 // 2, image.height * 3 // 2)),
    "brighter": lambda image: image.point([min(level + 30, 255) for level in range(256)]),
    "darker": lambda image: image.point([level * 4 // 5 for level in range(256)]),
    "gamma": lambda image: image.point([round(255 * (level / 255) ** 0.8) for level in range(256)]),
    "cropped by 2%": lambda image: crop(image, 0.02),
    "cropped by 3%": lambda image: crop(image, 0.03),
}


def crop(image: Image.Image, share: float) -> Image.Image:
    x, y = round(image.width * share), round(image.height * share)
    return image.crop((x, y, image.width - x, image.height - y))


def jpeg(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=60)
    return stream.getvalue()


@pytest.fixture(scope="module")
def planted(new_folder: NewFolder) -> tuple[Path, set[frozenset[str]]]:
    """Drawn images, 40 of them copied under another patient's name, and the pairs that belong together."""
    root = new_folder("planted") / "images"
    draw_images(root, n_images=220, seed=3)
    bacterial = sorted((root / "train" / "PNEUMONIA").glob("*_bacteria_*.jpeg"))[:-1]  # the last one is truncated
    images = {path.read_bytes(): path for path in reversed(bacterial)}  # byte-identical copies are another matter
    pairs = set()
    for number, path in enumerate(list(images.values())[:40]):
        image = Image.open(path).convert("L")
        copy = path.with_name(f"person{5000 + number}_bacteria_1.jpeg")
        copy.write_bytes(jpeg(CHANGES[list(CHANGES)[number % len(CHANGES)]](image)))
        pairs.add(frozenset(p.relative_to(root).as_posix() for p in (path, copy)))
    return root, pairs


def test_planted_copies_are_found_verified_and_held_in_one_fold(
    planted: tuple[Path, set[frozenset[str]]], tmp_path: Path
) -> None:
    root, pairs = planted
    folder = RunFolder(tmp_path / "run")
    examine(DataConfig(data=str(root)), folder, cache=tmp_path / "cache")
    table = files.read_table(folder.near_duplicates)
    verified = {frozenset(pair) for pair in table.loc[table["verified"], ["path_a", "path_b"]].to_numpy().tolist()}
    assert len(verified & pairs) / len(pairs) >= 0.95
    assert len(verified & pairs) == len(verified), "nothing else is verified as a copy"
    fold = files.read_table(folder.folds).set_index("path")["fold"]
    assert all(fold[list(pair)].nunique() == 1 for pair in verified)
    certificate = files.read_json(folder.certificate)
    assert (certificate["n_near_duplicate_pairs"], certificate["near_duplicates_crossing_folds"]) == (len(verified), 0)
    rejected = table[~table["verified"]]
    assert rejected["coarse_correlation"].notna().all(), "candidates that failed are listed with their correlation"


@pytest.mark.parametrize("change", CHANGES)
def test_a_copy_correlates_however_it_was_changed_and_another_image_does_not(sample: Path, change: str) -> None:
    image, other_image = (Image.open(path).convert("L") for path in sorted(sample.rglob("IM-*-0001.jpeg"))[:2])
    squares = [
        np.asarray(Image.open(io.BytesIO(jpeg(shown))).resize((256, 256)))
        for shown in (image, CHANGES[change](image), other_image)
    ]
    assert correlate_texture(squares[0], squares[1]) > 0.9
    assert correlate_texture(squares[0], squares[2]) < 0.8


def test_an_image_without_contrast_correlates_with_nothing() -> None:
    assert correlate_aligned(np.zeros((64, 64), np.uint8), np.eye(64, dtype=np.uint8) * 255) == 0
    assert correlate_texture(np.zeros((256, 256), np.uint8), np.eye(256, dtype=np.uint8) * 255) == 0


def test_candidates_equal_those_of_a_slow_twin() -> None:
    generator = np.random.default_rng(0)
    base = generator.integers(0, 2**63, 12, dtype=np.uint64)
    rows = [
        {
            name: f"{int(base[n % 12]) ^ (1 << int(generator.integers(64))) ^ (1 << int(generator.integers(64))):016x}"
            for name in CROPS_PX
        }
        for n in range(60)
    ]
    images = pd.DataFrame(rows)
    expected = {}
    for a in range(60):
        for b in range(a + 1, 60):
            compared = [(images["phash"][a], images[name][b]) for name in CROPS_PX]
            compared += [(images[name][a], images["phash"][b]) for name in CROPS_PX]
            distance = min((int(x, 16) ^ int(y, 16)).bit_count() for x, y in compared)
            if distance <= MAX_DISTANCE:
                expected[a, b] = distance
    a, b, distance = _candidates(images)
    assert dict(zip(zip(a.tolist(), b.tolist(), strict=True), distance.tolist(), strict=True)) == expected
    assert expected
