"""Tables in every format give the same text."""

import gzip
import hashlib
from pathlib import Path

import openpyxl
import pandas as pd
import pytest

from cxr.errors import ConfigError, CxrError, DamagedError, DataError
from cxr.images.source import FolderSource
from cxr.labels.tables import read_tables

FRAME = pd.DataFrame({"path": ["a.png", "b, c.png"], "patient": ["0001", "2"], "Target": [1, 0], "note": [None, " x "]})
TEXT = [["a.png", "0001", "1", None], ["b, c.png", "2", "0", "x"]]


def read(file: Path, header: tuple[str, ...] = ()) -> pd.DataFrame:
    (table,) = read_tables([str(file)], FolderSource(file.parent), header)
    return table.rows


def as_lists(rows: pd.DataFrame) -> list[list[object]]:
    return rows.astype(object).where(rows.notna(), None).to_numpy().tolist()


def csv_of(separator: str) -> bytes:
    return FRAME.to_csv(index=False, sep=separator).encode()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("t.csv", csv_of(",")),
        ("windows.csv", b"\xef\xbb\xbf" + csv_of(",").replace(b"\n", b"\r\n")),
        ("semicolons.csv", csv_of(";")),
        ("t.tsv", csv_of("\t")),
        ("t.txt", csv_of("\t")),
        ("t.csv.gz", gzip.compress(csv_of(","), mtime=0)),
        ("t.jsonl", FRAME.to_json(orient="records", lines=True).encode()),
        ("t.jsonl.gz", gzip.compress(FRAME.to_json(orient="records", lines=True).encode(), mtime=0)),
        ("T.CSV", csv_of(",")),
    ],
)
def test_every_format_gives_the_same_text_with_blanks_missing(name: str, data: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    rows = read(tmp_path / name)
    assert list(rows) == list(FRAME)
    assert as_lists(rows) == TEXT
    (table,) = read_tables([str(tmp_path / name)], FolderSource(tmp_path), ())
    assert (table.name, table.sha256) == (name, hashlib.sha256(data).hexdigest())


def test_numbers_of_a_parquet_file_are_text_without_a_point(tmp_path: Path) -> None:
    FRAME.assign(Target=[1.0, None], parts=[[1], [2]], share=[0.5, 1.0]).to_parquet(tmp_path / "t.parquet")
    rows = read(tmp_path / "t.parquet")
    assert list(rows) == ["path", "patient", "Target", "note", "share"]
    assert as_lists(rows) == [["a.png", "0001", "1", None, "0.5"], ["b, c.png", "2", None, "x", "1.0"]]


def test_a_table_without_names_gets_those_that_are_given(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("1 a.png COVID-19 cohen\n2 b.png normal rsna\n")
    rows = read(tmp_path / "train.txt", ("patient", "file", "class", "source"))
    assert as_lists(rows) == [["1", "a.png", "COVID-19", "cohen"], ["2", "b.png", "normal", "rsna"]]
    with pytest.raises(DataError, match="with a value for each column in each line"):
        read(tmp_path / "train.txt", ("patient", "file"))


def test_a_comma_at_the_end_of_each_line_is_a_column_named_by_its_number(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("Image Index,Size[Width,Height],\na.png,64,72,\n")
    assert list(read(tmp_path / "t.csv")) == ["Image Index", "Size[Width", "Height]", "column 4"]


def test_values_may_hold_line_breaks(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('path,report\na.png,"no\nfinding"\n')
    assert as_lists(read(tmp_path / "t.csv")) == [["a.png", "no\nfinding"]]


def test_a_table_within_the_data_is_found_by_path_name_or_pattern(tmp_path: Path) -> None:
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "mimic-split.csv.gz").write_bytes(gzip.compress(b"path,label\na.png,1\n"))
    for name in ("meta/mimic-split.csv.gz", "mimic-split.csv.gz", "*-split.csv*"):
        (table,) = read_tables([name], FolderSource(tmp_path), ())
        assert table.key == "meta/mimic-split.csv.gz"


@pytest.mark.parametrize(
    ("name", "data", "kind", "sentence"),
    [
        ("t.csv", b"", DataError, "'t.csv' has no rows"),
        ("t.csv", b"path,label\n", DataError, "'t.csv' has no rows"),
        ("t.csv", b"path,label\na.png\n", DataError, "Expected 2 columns, got 1"),
        ("t.csv", b"path,label\na, b.png,x\n", DataError, "Expected 2 columns, got 3"),
        ("t.csv", "path,label\nü.png,x\n".encode("latin-1"), DataError, "no table in UTF-8"),
        ("t.csv", b"path,path\na,b\n", DataError, "'t.csv' has two columns 'path'"),
        ("t.csv.gz", b"path,label\na.png,x\n", DataError, "'t.csv.gz' is no gzip file"),
        ("t.jsonl", b"{", DataError, "no file of JSON lines"),
        ("t.parquet", b"PAR1", DamagedError, "is damaged"),
        ("t.xls", b"", ConfigError, "--labels must be one of .csv, .tsv, .txt, .jsonl, .parquet, .xlsx, also .gz, got"),
    ],
)
def test_what_is_no_table_is_refused(
    name: str, data: bytes, kind: type[CxrError], sentence: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(kind, match=sentence):
        read(tmp_path / name)


def test_a_table_that_is_nowhere_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"--labels 'nowhere.csv' is no file, neither on this machine nor within the data"
    ):
        read_tables(["nowhere.csv"], FolderSource(tmp_path), ())


def test_a_table_here_does_not_stand_for_another_one_within_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.csv").write_text("path,label\na.png,1\n")
    (tmp_path / "train.csv").write_text("path,label\na.png,0\n")
    monkeypatch.chdir(tmp_path)
    source = FolderSource(tmp_path / "data")
    with pytest.raises(ConfigError, match=r"--labels 'train.csv' is a file here and another one within the data"):
        read_tables(["train.csv"], source, ())
    (table,) = read_tables([str(tmp_path / "train.csv")], source, ())
    assert table.rows["label"].tolist() == ["0"]
    monkeypatch.chdir(tmp_path / "data")
    (table,) = read_tables(["train.csv"], source, ())
    assert (table.key, table.rows["label"].tolist()) == ("train.csv", ["1"])


def test_a_workbook_is_read_as_its_table_would_be_as_csv(tmp_path: Path) -> None:
    workbook = openpyxl.Workbook()
    sheet = workbook.worksheets[0]
    for row in (["path", "patient", "age", "ef"], ["a.png", "0001", 63, None], [" b.png ", "0002", 7.0, 0.5]):
        sheet.append(row)
    workbook.save(tmp_path / "t.xlsx")
    (tmp_path / "t.csv").write_text("path,patient,age,ef\na.png,0001,63,\nb.png,0002,7,0.5\n")
    pd.testing.assert_frame_equal(read(tmp_path / "t.xlsx"), read(tmp_path / "t.csv"))


@pytest.mark.parametrize("data", [b"PK\x03\x04", b"path,label\na.png,1\n", b""])
def test_what_is_no_workbook_is_one_sentence(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "t.xlsx").write_bytes(data)
    with pytest.raises(DataError, match=r"'t.xlsx'"):
        read(tmp_path / "t.xlsx")
