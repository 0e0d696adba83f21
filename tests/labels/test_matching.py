"""Which file a row means."""

import pytest

from cxr.errors import DataError
from cxr.labels.matching import match_files


@pytest.mark.parametrize(
    ("value", "files", "expected"),
    [
        ("a/1.png", ["a/1.png", "b/1.png"], "a/1.png"),
        ("./a\\1.png", ["a/1.png", "b/1.png"], "a/1.png"),
        ("CheXpert/train/p1/1.jpg", ["train/p1/1.jpg", "valid/p1/1.jpg"], "train/p1/1.jpg"),
        ("train/p1/1.jpg", ["x/CheXpert/train/p1/1.jpg", "x/CheXpert/train/p2/1.jpg"], "x/CheXpert/train/p1/1.jpg"),
        ("/data/site/b/1.png", ["b/1.png", "x/b/1.png"], "b/1.png"),
        ("00000001_000.png", ["images_001/images/00000001_000.png"], "images_001/images/00000001_000.png"),
        ("0004cfab-14fd", ["train/0004cfab-14fd.dcm"], "train/0004cfab-14fd.dcm"),
        ("COVID-1.png", ["COVID/images/COVID-1.jpg"], "COVID/images/COVID-1.jpg"),
        ("1.2.840.1", ["x/1.2.840.1", "x/1.2.840.2"], "x/1.2.840.1"),
        ("1.2.840.1", ["x/1.2.840.1.dcm", "x/1.2.840.2.dcm"], "x/1.2.840.1.dcm"),
    ],
)
def test_the_rules_are_tried_from_the_exact_path_to_the_stem(value: str, files: list[str], expected: str) -> None:
    assert match_files([value], files) == {value: expected}


def test_a_path_never_leads_out_of_the_data() -> None:
    assert match_files(["../../etc/passwd", "/etc/passwd"], ["a/1.png"]) == {}


def test_a_row_whose_file_is_missing_does_not_take_another_patients_file_of_the_same_name() -> None:
    files = ["p1/view1.jpg", "p3/view1.jpg"]
    assert match_files(["p1/view1.jpg", "p2/view1.jpg"], files) == {"p1/view1.jpg": "p1/view1.jpg"}


def test_one_name_of_two_files_is_refused() -> None:
    with pytest.raises(
        DataError, match=r"'0001' is two files, 'a/0001.png' and 'b/0001.png': give a column that holds"
    ):
        match_files(["0001"], ["a/0001.png", "b/0001.png"])


def test_two_names_of_one_file_are_refused() -> None:
    with pytest.raises(DataError, match=r"'a/1.png' and 'b/1.png' both name the file '1.png'"):
        match_files(["a/1.png", "b/1.png"], ["1.png"])


def test_a_uid_is_looked_up_in_dicom_files_where_no_path_fits() -> None:
    uid = {"x.dcm": "1.2.840.1", "y.dcm": "1.2.840.2"}
    asked = []

    def read_uid(file: str) -> str | None:
        asked.append(file)
        return uid[file]

    assert match_files(["1.2.840.2"], list(uid), read_uid) == {"1.2.840.2": "y.dcm"}
    asked.clear()
    assert match_files(["z"], list(uid), read_uid) == {}
    assert not asked, "z is no UID"
