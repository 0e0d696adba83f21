import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxr.errors import ConfigError
from cxr.images.decoding import decode_square
from cxr.images.synthetic import draw_examples, draw_images


def files(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_the_same_seed_draws_the_same_files_and_another_seed_others(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        draw_images(tmp_path / name, n_images=40, seed=seed)
    assert files(tmp_path / "a") == files(tmp_path / "b") != files(tmp_path / "c")


def test_images_have_the_kaggle_layout_and_are_marked_as_synthetic(sample: Path) -> None:
    drawn = files(sample)
    assert sum(name.endswith(".jpeg") for name in drawn) == 80
    folders = {f"{split}/{label}" for split in ("train", "val", "test") for label in ("NORMAL", "PNEUMONIA")}
    assert {str(Path(name).parent) for name in drawn} == folders | {"."}
    assert b"SYNTHETIC" in drawn["SYNTHETIC.txt"]
    images = [Image.open(io.BytesIO(data)) for name, data in sorted(drawn.items()) if name.endswith(".jpeg")]
    assert all("SYNTHETIC" in str(image.info.get("comment")) for image in images)
    assert len({image.size for image in images}) > 10
    assert {image.mode for image in images} >= {"L"}


def test_lungs_with_pneumonia_are_usually_denser(tmp_path: Path) -> None:
    draw_images(tmp_path / "images", n_images=200, seed=0)
    lungs = {"NORMAL": [], "PNEUMONIA": []}
    for path in (tmp_path / "images" / "train").rglob("*.jpeg"):
        if "9999" not in path.name:
            square = decode_square(path.read_bytes(), 64).astype(float)
            lungs[path.parent.name].append(square[20:44, 10:54].mean() / square.mean())
    normal, sick = np.array(lungs["NORMAL"]), np.array(lungs["PNEUMONIA"])
    auc = (sick[:, None] > normal[None, :]).mean()
    assert 0.55 < auc < 0.99


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(ConfigError, match="nothing is overwritten"):
        draw_images(tmp_path, n_images=40, seed=0)
    assert files(tmp_path) == {"mine.txt": b"precious"}


def test_too_few_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--images must be 40 or more, got 39"):
        draw_images(tmp_path / "images", n_images=39, seed=0)
    assert not (tmp_path / "images").exists()


def test_an_example_of_each_kind_is_the_same_each_time_and_is_marked_as_synthetic() -> None:
    examples = draw_examples(seed=4)
    assert draw_examples(seed=4) == examples
    assert len({decode_square(image, 64).tobytes() for image in examples.values()}) == 3
    assert all(b"SYNTHETIC images drawn" in image for image in examples.values())
