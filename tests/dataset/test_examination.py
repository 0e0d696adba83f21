import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest

from cxr.config import DataConfig
from cxr.dataset.examination import examine
from cxr.errors import RunError
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
    folder = examined(root, tmp_path)
    assert len(files.read_table(folder.manifest)) == 2
    facts = files.read_json(folder.data)
    assert facts["no_folds_because"].startswith("two classes or more are needed")
    assert (facts["class_folders"], facts["empty_folders"]) == (["A", "B"], ["B"])
    assert not folder.folds.exists()
    assert not folder.certificate.exists()


def test_folds_of_an_earlier_examination_are_removed_when_there_are_none_now(
    tree: Tree, image: MakeImage, tmp_path: Path
) -> None:
    names = ["A/1.png", "A/2.png", "B/3.png", "B/4.png"]
    root = tree({name: image(seed) for seed, name in enumerate(names)})
    folder = examined(root, tmp_path, folds=2, positive="B")
    assert folder.folds.exists()
    (root / "B" / "4.png").unlink()
    examined(root, tmp_path, folds=2, positive="B")
    assert "class 'B' has 1 group of" in files.read_json(folder.data)["no_folds_because"]
    assert not folder.folds.exists()


def test_a_run_that_has_begun_accepts_only_the_same_images(tree: Tree, image: MakeImage, tmp_path: Path) -> None:
    root = tree({"A/1.png": image(1), "B/2.png": image(2)})
    folder = examined(root, tmp_path, positive="B")
    data_hash = files.read_json(folder.data)["data_hash"]
    verified.write_json(folder.config, {"format": files.FORMAT, "identity": {"data": data_hash}})
    examined(root, tmp_path, positive="B")
    (root / "B" / "2.png").write_bytes(image(3))
    with pytest.raises(RunError, match=r"run 'run' was begun with other images.*or another --run-id"):
        examined(root, tmp_path, positive="B")


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
