import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest

from cxr.config import DataConfig
from cxr.dataset.examination import examine
from cxr.dataset.listing.layout import LeftAside, left_aside_table
from cxr.errors import ConfigError, DataError, FoldError, RunError
from cxr.storage import files, verified
from cxr.storage.run_folder import RunFolder

Tree = Callable[[dict[str, bytes]], Path]
MakeImage = Callable[..., bytes]


def examined(data: Path, place: Path, **fields: object) -> RunFolder:
    folder = RunFolder(place / "run")
    examine(DataConfig(data=str(data), **fields), folder, cache=place / "cache")
    return folder


def test_a_data_set_gets_manifest_copies_folds_and_certificate(sample: Path, tmp_path: Path) -> None:
    folder = examined(sample, tmp_path, folds=2)
    manifest, folds = files.read_table(folder.manifest), files.read_table(folder.folds)
    assert len(manifest) == 80
    assert set(folds["path"]) == set(manifest.loc[manifest["status"] != "unreadable", "path"])
    assert files.read_json(folder.certificate)["groups_crossing_folds"] == 0
    assert len(files.read_table(folder.near_duplicates).columns) == 10
    facts = files.read_json(folder.data)
    assert (facts["classes"], facts["no_folds_because"]) == (["NORMAL", "PNEUMONIA"], None)
    assert facts["class_folders"] == ["NORMAL", "PNEUMONIA"]
    assert facts["left_aside"] == {"other file": 1}
    aside = files.read_table(folder.left_aside)
    assert aside[["path", "kind"]].to_numpy().tolist() == [["SYNTHETIC.txt", "other file"]]


def test_a_data_set_without_folds_has_a_manifest_and_the_reason(tree: Tree, image: MakeImage, tmp_path: Path) -> None:
    root = tree({"A/1.png": image(1), "A/2.png": image(2)})
    (root / "B").mkdir()
    folder = examined(root, tmp_path, folds=2)
    assert len(files.read_table(folder.manifest)) == 2
    facts = files.read_json(folder.data)
    assert facts["no_folds_because"].startswith("two classes or more are needed")
    assert (facts["class_folders"], facts["empty_folders"]) == (["A", "B"], ["B"])
    assert not folder.folds.exists()
    assert not folder.certificate.exists()


def test_folds_of_an_earlier_examination_are_removed_when_there_are_none_now(
    tree: Tree, image: MakeImage, tmp_path: Path
) -> None:
    names = ["A/1.png", "A/2.png", "B/person1_3.png", "B/person2_4.png"]
    root = tree({name: image(seed) for seed, name in enumerate(names)})
    folder = examined(root, tmp_path, folds=2, positive="B")
    assert folder.folds.exists()
    (root / "B" / "person2_4.png").rename(root / "B" / "person1_4.png")
    examined(root, tmp_path, folds=2, positive="B")
    assert "class 'B' has 1 group of" in files.read_json(folder.data)["no_folds_because"]
    assert not folder.folds.exists()


FOUR = ["A/1.png", "A/2.png", "B/3.png", "B/4.png"]


def begin(folder: RunFolder) -> None:
    """Let a folder pass for that of a run that has begun with the images that were examined in it."""
    data_hash = files.read_json(folder.data)["data_hash"]
    verified.write_json(folder.config, {"format": files.FORMAT, "identity": {"data": data_hash}})


def test_a_run_that_has_begun_accepts_only_the_same_images(tree: Tree, image: MakeImage, tmp_path: Path) -> None:
    root = tree({name: image(seed) for seed, name in enumerate(FOUR)})
    begin(examined(root, tmp_path, folds=2, positive="B"))
    examined(root, tmp_path, folds=2, positive="B")
    (root / "B" / "3.png").write_bytes(image(9))
    with pytest.raises(RunError, match=r"run 'run' was begun with other images.*or another --run-id"):
        examined(root, tmp_path, folds=2, positive="B")


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


def test_kaggle_is_asked_once(sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def dataset_download(name: str) -> str:
        asked.append(name)
        return str(sample)

    monkeypatch.setitem(sys.modules, "kagglehub", types.SimpleNamespace(dataset_download=dataset_download))
    folder = RunFolder(tmp_path / "run")
    examine(DataConfig(data="kaggle", folds=2), folder, cache=tmp_path / "cache")
    assert len(asked) == 1
    assert folder.folds.exists()
