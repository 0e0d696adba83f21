from pathlib import Path

import pytest

from cxr.errors import ConfigError, DataError
from cxr.images.source import FolderSource
from cxr.labels.splits import listed_splits, split_name

FILES = ["x/a.png", "x/b.png", "x/c.png"]


def splits(place: Path, *lists: str, allow: bool = False) -> dict[str, str]:
    return listed_splits(lists, FolderSource(place), FILES, allow=allow)


def test_the_words_of_collections_for_splits_are_known() -> None:
    words = ("validate", "VALID", "dev", "Testing", "training", "fold 3")
    assert [split_name(word) for word in words] == ["val", "val", "val", "test", "train", "fold 3"]


def test_a_list_has_a_file_a_line_and_may_lie_within_the_data(tmp_path: Path) -> None:
    (tmp_path / "test_list.txt").write_text("a.png\n\nb.png\n")
    assert splits(tmp_path, "test=test_list.txt") == {"x/a.png": "test", "x/b.png": "test"}
    assert splits(tmp_path, f"test={tmp_path / 'test_list.txt'}") == splits(tmp_path, "test=test_list.txt")


def test_a_list_that_names_no_image_or_one_of_another_list_is_refused(tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("a.png\nz.png\n")
    (tmp_path / "two.txt").write_text("a.png\n")
    with pytest.raises(DataError, match=r"1 of 2 lines of 'one.txt' name no image of the data, such as 'z.png'"):
        splits(tmp_path, "test=one.txt")
    assert splits(tmp_path, "test=one.txt", allow=True) == {"x/a.png": "test"}
    with pytest.raises(DataError, match=r"'x/a.png' is in the lists of two splits, 'test' and 'val'"):
        splits(tmp_path, "test=one.txt", "val=two.txt", allow=True)
    with pytest.raises(ConfigError, match=r"--split-list 'nowhere.txt' is no file"):
        splits(tmp_path, "test=nowhere.txt")
