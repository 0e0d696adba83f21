"""What tables say of images beside their labels, from rows that have their files already."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from cxr.errors import DataError
from cxr.images.source import Source, open_source
from cxr.labelling import Labelling
from cxr.labels.facts import facts_of_images
from cxr.labels.rows import FILE, VIEW

FILES = ["train/a.png", "valid/b.png", "test/c.png"]
TREE = dict.fromkeys(FILES, b"1")
Tree = Callable[[dict[str, bytes]], Path]


def key() -> bytes:
    return bytes(32)


@pytest.fixture
def source(tree: Tree) -> Source:
    return open_source(str(tree(TREE)))


def rows(files: list[str] = FILES, **columns: list[str | None]) -> pd.DataFrame:
    return pd.DataFrame({FILE: files, VIEW: None} | columns).astype("str")


def test_without_options_nothing_is_known_of_an_image(source: Source) -> None:
    facts = facts_of_images(rows(), Labelling(), source, FILES, key)
    assert facts.index.tolist() == FILES
    assert facts.columns.tolist() == ["patient_id", "split", "view", "weight"]
    assert facts.isna().all(axis=None)


def test_each_fact_comes_from_its_column_and_the_patient_only_as_a_hash(source: Source) -> None:
    options = {"patient_column": "who", "split_column": "part", "weight_column": "w", "subgroup_column": ("sex",)}
    labelling = Labelling(labels=("t.csv",), **options)
    table = rows(who=["7", "8", "7"], part=["Training", "dev", "other"], w=["1", "2.5", ".5"], sex=["F", None, "M"])
    table[VIEW] = ["PA", "AP", None]
    facts = facts_of_images(table, labelling, source, FILES, key)
    patients = facts["patient_id"].tolist()
    assert patients[0] == patients[2] != patients[1]
    assert not {"7", "8"} & set(patients)
    assert facts["split"].tolist() == ["train", "val", "other"]
    assert facts["weight"].tolist() == [1.0, 2.5, 0.5]
    assert facts["view"].dropna().tolist() == ["PA", "AP"]
    assert facts["subgroup_sex"].dropna().to_dict() == {FILES[0]: "F", FILES[2]: "M"}


def test_the_split_is_searched_in_the_path_or_looked_up_in_lists(source: Source, tmp_path: Path) -> None:
    of_path = facts_of_images(rows(), Labelling(labels=("t",), split_pattern="^(train|valid)/"), source, FILES, key)
    assert of_path["split"].fillna("none").tolist() == ["train", "val", "none"]
    (tmp_path / "held.txt").write_text("c.png\n")
    lists = Labelling(labels=("t",), split_list=(f"test={tmp_path / 'held.txt'}",))
    listed = facts_of_images(rows(), lists, source, FILES, key)
    assert listed["split"].fillna("none").tolist() == ["none", "none", "test"]


def test_rows_of_one_image_fill_each_others_blanks_and_may_not_disagree(source: Source) -> None:
    labelling = Labelling(labels=("t.csv",), split_column="part")
    twice = [FILES[0], FILES[0], FILES[1]]
    facts = facts_of_images(rows(twice, part=[None, "test", "train"]), labelling, source, FILES, key)
    assert facts["split"].to_dict() == {FILES[0]: "test", FILES[1]: "train"}
    with pytest.raises(DataError, match=r"image 'train/a.png' has rows that disagree \(split val, test\)"):
        facts_of_images(rows(twice, part=["valid", "test", "train"]), labelling, source, FILES, key)


def test_a_weight_that_is_none_is_refused_under_the_name_of_its_column(source: Source) -> None:
    labelling = Labelling(labels=("t.csv",), weight_column="w")
    with pytest.raises(DataError, match=r"--weight-column 'w' must hold a number above 0 for each image, got '0'"):
        facts_of_images(rows(w=["1", "0", "2"]), labelling, source, FILES, key)
