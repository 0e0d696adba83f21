import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest

from cxr.config import DataConfig
from cxr.dataset.examination import examine
from cxr.errors import RunError
from cxr.storage import files
from cxr.storage.run_folder import RunFolder
from tests.support.examined import begin, examined

Tree = Callable[[dict[str, bytes]], Path]
MakeImage = Callable[..., bytes]


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


FOUR = ["A/1.png", "A/2.png", "B/3.png", "B/4.png"]


def test_a_run_that_has_begun_accepts_only_the_same_images(tree: Tree, image: MakeImage, tmp_path: Path) -> None:
    root = tree({name: image(seed) for seed, name in enumerate(FOUR)})
    begin(examined(root, tmp_path, folds=2, positive="B"))
    examined(root, tmp_path, folds=2, positive="B")
    (root / "B" / "3.png").write_bytes(image(9))
    with pytest.raises(RunError, match=r"run 'run' was begun with other images.*or another --run-id"):
        examined(root, tmp_path, folds=2, positive="B")


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
