from collections.abc import Callable
from pathlib import Path

import pytest

from cxr.config import DataConfig
from cxr.dataset.examination import examine
from cxr.dataset.listing.layout import LeftAside, left_aside_table
from cxr.errors import ConfigError, DataError, FoldError, RunError
from cxr.storage import files, verified
from cxr.storage.run_folder import RunFolder
from tests.support.examined import begin, examined

Tree = Callable[[dict[str, bytes]], Path]
MakeImage = Callable[..., bytes]
FOUR = ["A/1.png", "A/2.png", "B/3.png", "B/4.png"]


def test_what_a_run_left_aside_when_it_began_stays_aside_though_it_is_read_by_now(
    tree: Tree, image: MakeImage, tmp_path: Path
) -> None:
    root = tree({name: image(seed) for seed, name in enumerate(FOUR)})
    folder = examined(root, tmp_path, folds=2, positive="B")
    (root / "A" / "5.tif").write_bytes(image(5))
    verified.write_table(folder.left_aside, left_aside_table([LeftAside("A/5.tif", "image in another format", 1)]))
    begin(folder)
    examined(root, tmp_path, folds=2, positive="B")
    (root / "A" / "6.tif").write_bytes(image(6))
    with pytest.raises(RunError, match="begun with other images"):
        examined(root, tmp_path, folds=2, positive="B")


def test_a_run_that_began_with_folders_that_are_hardly_classes_goes_on(
    tree: Tree, image: MakeImage, tmp_path: Path
) -> None:
    root = tree({f"{label}/{label}{n}.png": image(10 * label + n) for label in (0, 1, 2) for n in range(2)})
    begin(examined(root, tmp_path, folds=2, class_folder=("0", "1", "2")))
    examined(root, tmp_path, folds=2)


@pytest.mark.parametrize(
    ("names", "fields", "error", "sentence"),
    [
        (
            FOUR,
            {"folds": 3},
            FoldError,
            "class 'A' has 2 images, fewer than the 3 folds: give --folds 2 or less, or more",
        ),
        (FOUR[1:], {"folds": 2}, FoldError, "class 'A' has 1 image, fewer than the 2 folds: give more images of that"),
        (
            FOUR[:2],
            {"folds": 2},
            DataError,
            "two classes or more are needed, but all 2 images are in folders of .* 'A'",
        ),
        (FOUR, {"holdout": "val"}, ConfigError, r"--holdout 'val' names no split of the data, which has none\."),
        (
            [f"{split}/{name}" for split in ("train", "test") for name in FOUR],
            {"folds": 3, "holdout": "test"},
            FoldError,
            "class 'A' has 2 images, fewer than the 3 folds",
        ),
        (FOUR, {"positive": "C"}, ConfigError, "--positive must name one of the classes"),
    ],
)
def test_what_names_alone_say_is_said_before_an_image_is_read(
    tree: Tree, tmp_path: Path, names: list[str], fields: dict, error: type[Exception], sentence: str
) -> None:
    root = tree(dict.fromkeys(names, b"no image"))
    with pytest.raises(error, match=sentence):
        examined(root, tmp_path, **({"positive": "B"} | fields))
    assert not (tmp_path / "cache").exists()


def test_a_test_set_needs_no_images_for_folds(tree: Tree, image: MakeImage, tmp_path: Path) -> None:
    root = tree({name: image(seed) for seed, name in enumerate(FOUR)})
    config = DataConfig(data=str(root), positive="B", folds=5)
    examine(config, RunFolder(tmp_path / "run"), cache=tmp_path / "cache", is_test_set=True)
    assert "fewer than the 5 folds" in files.read_json(tmp_path / "run" / "data.json")["no_folds_because"]
