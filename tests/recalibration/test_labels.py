import hashlib
from pathlib import Path

import pandas as pd
import pytest

from cxr.classes import Classes
from cxr.errors import ConfigError, CxrError, DamagedError, DataError
from cxr.recalibration.labels import read_labels

CLASSES = Classes(["NORMAL", "PNEUMONIA"])


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with the files a.png, b.png and `with, comma.png`."""
    for name in ("a.png", "b.png", "with, comma.png"):
        (tmp_path / name).write_bytes(b"")
    return tmp_path


def write(place: Path, text: str, encoding: str = "utf-8") -> Path:
    (place / "labels.csv").write_bytes(text.encode(encoding))
    return place / "labels.csv"


def test_paths_labels_and_patients_are_read_and_other_columns_are_not(place: Path) -> None:
    text = 'note,label,path,patient_id\r\nx,NORMAL, a.png ,7\r\n,PNEUMONIA,"with, comma.png",\r\n'
    file = write(place, text, "utf-8-sig")
    found = read_labels(file, None, CLASSES)
    rows = [["a.png", "NORMAL", "7", 2], ["with, comma.png", "PNEUMONIA", "", 3]]
    assert found.rows.to_numpy().tolist() == rows
    assert found.folder == place
    assert found.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_parquet_file_says_the_same(place: Path) -> None:
    table = pd.DataFrame({"path": ["a.png", "b.png"], "label": ["NORMAL", "PNEUMONIA"], "patient_id": ["7", None]})
    table.to_parquet(place / "labels.parquet")
    found = read_labels(place / "labels.parquet", None, CLASSES)
    assert found.rows.to_numpy().tolist() == [["a.png", "NORMAL", "7", 1], ["b.png", "PNEUMONIA", "", 2]]


def test_paths_are_relative_to_the_folder_of_the_images_where_one_is_given(place: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    file = write(tmp_path / "elsewhere", f"path,label\na.png,NORMAL\n{place / 'b.png'},PNEUMONIA\n")
    assert read_labels(file, place, CLASSES).folder == place
    with pytest.raises(
        DataError, match=r"1 of 2 images are not in '.*elsewhere', the first 'a.png': .* --images names"
    ):
        read_labels(file, None, CLASSES)


def test_a_row_that_is_repeated_counts_once(place: Path) -> None:
    file = write(place, "path,label\na.png,NORMAL\na.png,NORMAL\nb.png,PNEUMONIA\n")
    assert read_labels(file, None, CLASSES).rows["path"].tolist() == ["a.png", "b.png"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "needs the columns path and label, and may have patient_id; it has none and lacks path and label"),
        ("path;label\na.png;NORMAL\n", "it has 'path;label' and lacks path and label"),
        ("path,class\na.png,NORMAL\n", "lacks label"),
        ("path,label\n", "has no rows"),
        (
            "path,label\na.png,NORMAL\nb.png,normal\n",
            "line 3 .* the path 'b.png' and the label 'normal': .* 'NORMAL', ",
        ),
        ("path,label\na.png,\nb.png,x\n", r"line 2 .* \(2 lines do not\)"),
        ("path,label\n,NORMAL\n", "line 2 .* the path ''"),
        ("path,label\na.png\n", "line 2 .* does not have a value for each column"),
        ("path,label\nwith, comma.png,NORMAL\n", "line 2 .* write paths with commas in quotation marks"),
        ("path,label\na.png,NORMAL\na.png,PNEUMONIA\n", "says different things of 'a.png' in the lines 2, 3"),
        ("path,label,patient_id\na.png,NORMAL,1\na.png,NORMAL,2\n", "says different things"),
        ("path,label\nnowhere.png,NORMAL\n", "1 of 1 images are not in"),
        (f"path,label\n{'x' * 5000},NORMAL\n", "1 of 1 images are not in"),
        ('path,label\n"a.png,NORMAL\n', "is no CSV file in UTF-8"),
    ],
)
def test_what_is_wrong_with_the_file_is_said_with_its_place(place: Path, text: str, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        read_labels(write(place, text), None, CLASSES)


def test_files_that_are_no_tables_are_refused(place: Path) -> None:
    refused: list[tuple[Path, type[CxrError], str]] = [
        (write(place, "path,label\nü.png,NORMAL\n", "latin-1"), DataError, "is no CSV file in UTF-8"),
        (place / "labels.xlsx", ConfigError, "must be a .csv or a .parquet file"),
        (place / "nowhere.csv", ConfigError, "cannot be read"),
        (place / "damaged.parquet", DamagedError, "is damaged"),
    ]
    (place / "damaged.parquet").write_bytes(b"PAR1")
    for file, kind, sentence in refused:
        with pytest.raises(kind, match=sentence):
            read_labels(file, None, CLASSES)
    with pytest.raises(ConfigError, match=r"--images '.*nowhere' is no folder"):
        read_labels(write(place, "path,label\na.png,NORMAL\n"), place / "nowhere", CLASSES)
    with pytest.raises(ConfigError, match="--images needs a folder of files, got 's3://bucket/x'"):
        read_labels(write(place, "path,label\na.png,NORMAL\n"), Path("s3://bucket/x"), CLASSES)
