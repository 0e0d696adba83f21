import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from cxr.config import DataConfig, TrainConfig
from cxr.dataset.examination import examine
from cxr.dataset.listing.labels import class_names, require_labels
from cxr.dataset.listing.layout import list_images
from cxr.errors import ConfigError, DataError
from cxr.images.source import open_source
from cxr.storage.run_folder import RunFolder

Tree = Callable[[dict[str, bytes]], Path]


def require(root: Path, **fields: object) -> None:
    require_labels(list_images(open_source(str(root))), DataConfig(data=str(root), **fields))


@pytest.mark.parametrize(
    ("first", "second", "sentence"),
    [
        ("train/NORMAL", "test/Normal", "the classes 'NORMAL' and 'Normal' differ only in .*'train/NORMAL' and"),
        ("NORMAL", "NORMAL ", "the classes 'NORMAL' and 'NORMAL ' differ only in"),
        ("A  B", "A B", "the classes 'A  B' and 'A B' differ only in"),
        ("Neumon\u00eda", "Neumoni\u0301a", r"the classes 'Neumoni\\u0301a' and 'Neumon\\xeda' differ only in"),
        ("STRASSE", "stra\u00dfe", "the classes 'STRASSE' and 'straße' differ only in"),
    ],
)
def test_two_spellings_of_a_class_are_an_error_that_shows_both(
    tree: Tree, first: str, second: str, sentence: str
) -> None:
    root = tree({f"{first}/1.png": b"1", f"{second}/2.png": b"2", "PNEUMONIA/3.png": b"3"})
    with pytest.raises(DataError, match=sentence):
        require(root)


def test_the_spelling_of_an_empty_class_folder_counts_too(tree: Tree) -> None:
    root = tree({"train/NORMAL/1.png": b"1", "train/PNEUMONIA/2.png": b"2"})
    (root / "test" / "Pneumonia").mkdir(parents=True)
    with pytest.raises(DataError, match=r"'PNEUMONIA' and 'Pneumonia' .* 'train/PNEUMONIA' and 'test/Pneumonia'"):
        require(root)


def test_names_that_differ_in_a_letter_are_two_classes(tree: Tree) -> None:
    require(tree({"NORMAL/1.png": b"1", "NORMALE/2.png": b"2", "N\u00f6RMAL/3.png": b"3"}))


def test_the_folders_of_subtypes_may_be_spelt_as_they_like(tree: Tree) -> None:
    names = ["NORMAL/1.png", "Pneumonia/a_virus_1.png", "PNEUMONIA/b_virus_1.png", "PNEUMONIA/c_bacteria_1.png"]
    root = tree(dict.fromkeys(names, b"1"))
    require(root, label_from="subtype")
    with pytest.raises(DataError, match="'PNEUMONIA' and 'Pneumonia'"):
        require(root)


@pytest.mark.parametrize("positive", [None, "C"])
def test_the_positive_class_is_asked_for_before_an_image_is_read(
    tree: Tree, tmp_path: Path, positive: str | None
) -> None:
    root = tree({"A/1.png": b"no image", "B/2.png": b"no image"})
    with pytest.raises(ConfigError, match="--positive must name one of the classes 'A' and 'B'"):
        examine(DataConfig(data=str(root), positive=positive), RunFolder(tmp_path / "run"), cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("classes", "positive", "expected"),
    [
        (["NORMAL", "PNEUMONIA"], None, ["NORMAL", "PNEUMONIA"]),
        (["NORMAL", "PNEUMONIA"], "NORMAL", ["PNEUMONIA", "NORMAL"]),
        (["a", "b", "c"], None, ["a", "b", "c"]),
        (["a", "b"], "a", ["b", "a"]),
        (
            ["a", "b"],
            None,
            "one of the classes 'a' and 'b', as neither is 'PNEUMONIA', the default",
        ),
        (["a", "b"], "c", "--positive must name one of the classes 'a' and 'b', got 'c'"),
        (["\xed", "b"], "i\u0301", r"the classes 'b' and '\xed', got 'i\u0301'"),
        (["a", "b", "c"], "a", "--positive is for two classes; 3 were found: a, b, c"),
    ],
)
def test_the_positive_class_is_last_of_two(classes: list[str], positive: str | None, expected: list[str] | str) -> None:
    table = pd.DataFrame({"label": classes, "status": "used", "subtype": None})
    config = TrainConfig(data="x", positive=positive)
    if isinstance(expected, list):
        assert class_names(table, config) == expected
    else:
        with pytest.raises(ConfigError, match=re.escape(expected)):
            class_names(table, config)


def test_one_class_is_not_enough() -> None:
    table = pd.DataFrame({"label": ["A", "B"], "status": ["used", "unreadable"], "subtype": None})
    with pytest.raises(DataError, match="two classes or more"):
        class_names(table, TrainConfig(data="x"))
