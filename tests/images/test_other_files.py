import bz2
import gzip
import io
import lzma
import sqlite3
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxr.errors import UnreadableError
from cxr.images.other_files import HEAD_BYTES, OTHER_FILE, as_other_file

NO_HEADER = UnreadableError("not_an_image", "no JPEG, PNG or DICOM header")
ROWS = "path,label\nimage-1.jpeg,PNEUMONIA\n"


def judged(data: bytes, path: str = "labels") -> tuple[str, str]:
    error = as_other_file(NO_HEADER, path, data)
    return error.reason, error.detail


def zipped() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("image.jpeg", b"x")
    return stream.getvalue()


def tarred() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("image.jpeg"))
    return stream.getvalue()


def parquet() -> bytes:
    stream = io.BytesIO()
    pd.DataFrame({"path": ["a"]}).to_parquet(stream)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (ROWS.encode(), "text"),
        ("sujet,âge\n".encode("utf-16"), "text"),
        ("Größe;Befund\n180;unauffällig\n".encode("cp1252"), "text"),
        ("肺炎\n".encode(), "text"),
        (b"<!DOCTYPE html><p>404", "text"),
        (zipped(), "zip archive or Office document"),
        (tarred(), "tar archive"),
        (gzip.compress(b"x", mtime=0), "gzip archive"),
        (bz2.compress(b"x"), "bzip2 archive"),
        (lzma.compress(b"x"), "xz archive"),
        (b"%PDF-1.7\n%\xe2\xe3\n", "PDF document"),
        (parquet(), "Parquet table"),
    ],
)
def test_a_text_table_archive_or_document_is_another_file_of_a_kind(data: bytes, kind: str) -> None:
    assert judged(data) == (OTHER_FILE, kind)
    assert judged(data, "deep/labels.csv") == (OTHER_FILE, kind)


def test_a_database_is_another_file(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "a.db") as connection:
        connection.execute("CREATE TABLE labels (path TEXT)")
    connection.close()
    assert judged((tmp_path / "a.db").read_bytes()) == (OTHER_FILE, "SQLite database")


@pytest.mark.parametrize("path", ["a.jpeg", "A.JPG", "deep/a.png", "a.dcm", "a.dicom", "a.tif"])
def test_what_is_named_as_an_image_stays_an_image_that_cannot_be_read(path: str) -> None:
    assert as_other_file(NO_HEADER, path, ROWS.encode()) is NO_HEADER


@pytest.mark.parametrize("reason", ["empty", "truncated", "damaged", "unsupported_format", "permission_denied"])
def test_every_other_refusal_stays_what_it_is(reason: str) -> None:
    refused = UnreadableError(reason, "…")  # pyright: ignore[reportArgumentType]
    assert as_other_file(refused, "labels.csv", ROWS.encode()) is refused


@pytest.mark.parametrize(
    "data",
    [
        bytes(5000),
        np.random.default_rng(0).bytes(5000),
        np.random.default_rng(1).integers(0x80, 0xFF, 40, dtype=np.uint8).tobytes(),
        b"\xff\xfe" + np.random.default_rng(2).bytes(5000),
        b"",
    ],
    ids=["zeros", "noise", "a little noise without control characters", "noise behind a byte order mark", "nothing"],
)
def test_bytes_that_are_nothing_known_may_have_been_an_image(data: bytes) -> None:
    assert as_other_file(NO_HEADER, "image", data) is NO_HEADER


def test_the_first_bytes_of_an_image_are_no_other_file(image: Callable[..., bytes]) -> None:
    for format in ("JPEG", "PNG"):
        assert as_other_file(NO_HEADER, "image", image(format=format)[:200]) is NO_HEADER


def test_text_that_is_cut_within_a_character_is_text() -> None:
    assert judged(b"a" + "é".encode() * HEAD_BYTES) == (OTHER_FILE, "text")
