from collections.abc import Callable
from pathlib import Path

from cxr.storage import files
from tests.support.examined import examined

Tree = Callable[[dict[str, bytes]], Path]
MakeImage = Callable[..., bytes]


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
