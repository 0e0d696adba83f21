"""The labels of `cxr recalibrate`: images of another site, each with its class and, if known, its patient.

A CSV file with a line of column names, or a Parquet file: `path`, `label` and, if patients are known, `patient_id`.
Other columns are ignored. Whatever is wrong with the file is refused with the place where it is wrong: a label that is
guessed would be fitted.
"""

import csv
import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from cxr.classes import Classes
from cxr.errors import ConfigError, DataError
from cxr.storage.files import parse_table, require_local
from cxr.wording import visible

REQUIRED = ("path", "label")


@dataclass(frozen=True)
class Labels:
    """The rows of a labels file."""

    rows: pd.DataFrame
    """Columns path (as it is written there), label, patient_id (empty where unknown), line."""
    folder: Path
    """Which the paths are relative to."""
    sha256: str
    """Of the file's bytes, in hexadecimal."""


def read_labels(file: Path, images: Path | None, classes: Classes) -> Labels:
    """Return the rows of a labels file; rows that say the same of the same path count once.

    Args:
        file: ending in .csv or .parquet.
        images: the folder that the paths are relative to; None for the file's own.
        classes: of the model.

    Raises:
        ConfigError: the file is neither, or `images` is no folder.
        DataError: a column, path or label is missing or unknown, a path has two labels, or an image is not there.
    """
    data = _read_bytes(file)
    require_local("--images", images or file.parent)
    rows = pd.DataFrame(_records(file, data), columns=["path", "label", "patient_id", "line"])
    if rows.empty:
        raise DataError(f"{str(file)!r} has no rows: give a path and a label for each image.")
    _require_known(file, rows, classes)
    rows = rows.drop_duplicates(["path", "label", "patient_id"], ignore_index=True)
    _require_one_row_each(file, rows)
    labels = Labels(rows, images or file.parent, hashlib.sha256(data).hexdigest())
    _require_images(labels)
    return labels


def _read_bytes(file: Path) -> bytes:
    if file.suffix.lower() not in (".csv", ".parquet"):
        raise ConfigError(f"--labels must be a .csv or a .parquet file, got {str(file)!r}.")
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigError(f"--labels {str(file)!r} cannot be read ({error.strerror}): give a file.") from error


def _records(file: Path, data: bytes) -> Iterator[tuple[str, str, str, int]]:
    """Yield path, label, patient id and line number of each row."""
    for line, row in _parquet_rows(file, data) if file.suffix.lower() == ".parquet" else _csv_rows(file, data):
        path, label, patient_id = ((row.get(name) or "").strip() for name in (*REQUIRED, "patient_id"))
        yield path, label, patient_id, line


def _csv_rows(file: Path, data: bytes) -> Iterator[tuple[int, dict[str, str | None]]]:
    try:
        reader = csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        _require_columns(file, list(reader.fieldnames or []))
        for row in reader:
            if None in row or None in row.values():
                raise DataError(
                    f"line {reader.line_num} of {str(file)!r} does not have a value for each column: write paths with "
                    "commas in quotation marks."
                )
            yield reader.line_num, row
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{str(file)!r} is no CSV file in UTF-8 ({error}): export it again.") from error


def _parquet_rows(file: Path, data: bytes) -> Iterator[tuple[int, dict[str, str | None]]]:
    table = parse_table(file, io.BytesIO(data))
    _require_columns(file, list(map(str, table.columns)))
    texts = table.astype("str").where(table.notna(), "")
    yield from enumerate(texts.to_dict("records"), start=1)  # pyright: ignore[reportReturnType]


def _require_columns(file: Path, columns: list[str]) -> None:
    missing = [name for name in REQUIRED if name not in columns]
    if missing:
        raise DataError(
            f"{str(file)!r} needs the columns path and label, and may have patient_id; it has "
            f"{', '.join(map(repr, columns)) or 'none'} and lacks {' and '.join(missing)}."
        )


def _require_known(file: Path, rows: pd.DataFrame, classes: Classes) -> None:
    unknown = rows[(rows["path"] == "") | ~rows["label"].isin(classes)]
    if len(unknown):
        first = unknown.iloc[0]
        raise DataError(
            f"line {first['line']} of {str(file)!r} has the path {first['path']!r} and the label {first['label']!r}: "
            f"each line needs a path and one of the model's classes {', '.join(map(repr, classes))}"
            f"{f' ({len(unknown)} lines do not)' if len(unknown) > 1 else ''}."
        )


def _require_one_row_each(file: Path, rows: pd.DataFrame) -> None:
    twice = rows[rows["path"].duplicated(keep=False)]
    if len(twice):
        path = twice["path"].iloc[0]
        lines = ", ".join(map(str, twice.loc[twice["path"] == path, "line"]))
        raise DataError(f"{str(file)!r} says different things of {path!r} in the lines {lines}: keep one of them.")


def _require_images(labels: Labels) -> None:
    if not labels.folder.is_dir():
        raise ConfigError(f"--images {str(labels.folder)!r} is no folder: give the one that the paths are relative to.")
    missing = [path for path in labels.rows["path"] if not _is_file(labels.folder, path)]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(labels.rows)} images are not in {visible(labels.folder)!r}, the first "
            f"{missing[0]!r}: paths are relative to the labels file, or to the folder that --images names."
        )


def _is_file(folder: Path, path: str) -> bool:
    try:
        return (folder / path).is_file()
    except (OSError, ValueError):  # too long for a path, or with a NUL byte
        return False
