from pathlib import Path

import pytest

from cxr.storage.content_index import ContentIndex


@pytest.fixture
def file(tmp_path: Path) -> Path:
    index = ContentIndex(tmp_path / "contents" / "ward.parquet")
    index.add("1.png", "7 1 1 1", "a")
    index.add("2.png", "7 1 1 2", "b")
    index.save()
    return tmp_path / "contents" / "ward.parquet"


def test_a_content_is_known_for_this_path_and_signature_alone(file: Path) -> None:
    index = ContentIndex(file)
    assert (index.get("1.png", "7 1 1 1"), index.get("2.png", "7 1 1 2")) == ("a", "b")
    assert index.get("1.png", "7 1 1 2") is None
    assert index.get("1.png", None) is None


def test_what_has_no_signature_is_not_remembered(file: Path) -> None:
    index = ContentIndex(file)
    index.add("3.png", None, "c")
    assert index.get("3.png", None) is None


def test_files_that_are_gone_are_forgotten(file: Path) -> None:
    index = ContentIndex(file)
    index.keep([("1.png", "7 1 1 1"), ("2.png", "8 1 1 2")])
    index.save()
    index = ContentIndex(file)
    assert (index.get("1.png", "7 1 1 1"), index.get("2.png", "7 1 1 2")) == ("a", None)


def test_an_index_that_has_not_changed_is_not_written(file: Path) -> None:
    before = file.stat().st_mtime_ns
    index = ContentIndex(file)
    index.add("1.png", "7 1 1 1", "a")
    index.keep([("1.png", "7 1 1 1"), ("2.png", "7 1 1 2")])
    index.save()
    assert file.stat().st_mtime_ns == before


@pytest.mark.parametrize("data", [b"", b"not a table"])
def test_a_damaged_index_knows_nothing(file: Path, data: bytes) -> None:
    file.write_bytes(data)
    index = ContentIndex(file)
    assert index.get("1.png", "7 1 1 1") is None
    index.add("1.png", "7 1 1 1", "a")
    index.save()
    assert ContentIndex(file).get("1.png", "7 1 1 1") == "a"
