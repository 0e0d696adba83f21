"""Tables of labels: csv, tsv, txt, jsonl, parquet or xlsx, also compressed with gzip, as columns of text.

Every value is text, stripped of blanks at its ends, and missing where nothing is left: patient 0001 is not patient 1,
and what a number means is decided later. A table that has not a value for each column in each line is refused.
"""

import csv
import gzip
import hashlib
import importlib.util
import io
import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from zipfile import BadZipFile

import pandas as pd
import pyarrow as pa
from pyarrow import csv as arrow_csv

from cxr.errors import ConfigError, DataError
from cxr.images.source import Source
from cxr.storage.files import parse_table

SUFFIXES = (".csv", ".tsv", ".txt", ".jsonl", ".parquet", ".xlsx")
DELIMITERS = {".csv": ",;\t", ".tsv": "\t", ".txt": "\t,; "}
"""What may separate values: the first that is in the first line."""


@dataclass(frozen=True)
class Table:
    """A table as it was read."""

    name: str
    """Of the file, without its folder."""
    rows: pd.DataFrame
    """Text columns, missing where blank."""
    sha256: str
    """Of the file's bytes, in hexadecimal."""
    key: str | None = None
    """Its path in the data, if it lies there."""

    def with_folder(self, path_column: str, files: Collection[str]) -> "Table":
        """Return this with the table's own folder before each path, if that is where the files are."""
        folder = PurePosixPath(self.key or "").parent.as_posix()
        if folder == "." or path_column not in self.rows:
            return self
        below = folder + "/" + self.rows[path_column]
        is_there = below.isin(files)
        return replace(self, rows=self.rows.assign(**{path_column: below})) if is_there.mean() > 0.5 else self


def read_tables(names: Sequence[str], source: Source, header: Sequence[str]) -> list[Table]:
    """Return the tables that `--labels` names.

    Args:
        names: paths of files, or paths, names or patterns such as `*-split.csv.gz` of files in the data.
        source: the data.
        header: names of the columns of tables without a line of names; empty if the first line has them.

    Raises:
        ConfigError: there is no such file, or its suffix is none of SUFFIXES.
        DataError: a file is no table.
    """
    found = [file for name in names for file in find_files(name, source, "--labels")]
    return [_read(name, data, header, key) for name, data, key in found]


def read_table(path: Path, what: str) -> Table:
    """Return a table in a file of its own.

    Args:
        path: the file.
        what: the option or the argument that names it.

    Raises:
        ConfigError: there is no such file, or its suffix is none of SUFFIXES.
        DataError: the file is no table.
    """
    place = path.expanduser()
    if not place.is_file():
        raise ConfigError(f"{what} {str(path)!r} is no file: correct the path.")
    return _read(place.name, place.read_bytes(), what=what)


def find_files(name: str, source: Source, flag: str) -> list[tuple[str, bytes, str | None]]:
    """Return name, bytes and path in the data (None outside it) of the files that an option names.

    Raises:
        ConfigError: there is none, it cannot be read, or there is one here and another one within the data.
    """
    path = Path(name).expanduser()
    keys = [] if path.is_absolute() else [key for key in sorted(source.sizes()) if _is_named(key, name)]
    try:
        inside: list[tuple[str, bytes, str | None]] = [(PurePosixPath(key).name, source.read(key), key) for key in keys]
        here = path.read_bytes() if path.is_file() else None
    except MemoryError:
        raise
    except Exception as error:  # OSError; from a damaged zip also BadZipFile, zlib.error, EOFError, struct.error, …
        raise ConfigError(f"{flag} {name!r} cannot be read ({error}): give another copy.") from error
    if here is None and not inside:
        raise ConfigError(f"{flag} {name!r} is no file, neither on this machine nor within the data: correct the path.")
    if here is not None and any(data != here for _, data, _ in inside):
        raise ConfigError(
            f"{flag} {name!r} is a file here and another one within the data, {keys[0]!r}: give the whole path of "
            "yours, or remove it."
        )
    return inside or [(path.name, here or b"", None)]


def _is_named(key: str, name: str) -> bool:
    return fnmatchcase(key, name) or fnmatchcase(key.rpartition("/")[2], name) or key.endswith("/" + name)


def _read(name: str, data: bytes, header: Sequence[str] = (), key: str | None = None, what: str = "--labels") -> Table:
    sha256 = hashlib.sha256(data).hexdigest()
    plain = name.lower().removesuffix(".gz")
    suffix = PurePosixPath(plain).suffix
    if suffix not in SUFFIXES:
        raise ConfigError(f"{what} must be one of {', '.join(SUFFIXES)}, also .gz, got {name!r}.")
    if plain != name.lower():
        data = _unpacked(name, data)
    if suffix in DELIMITERS:
        rows = _delimited(name, data, suffix, header)
    elif suffix == ".jsonl":
        rows = _json_lines(name, data)
    elif suffix == ".parquet":
        rows = _as_text(parse_table(Path(name), io.BytesIO(data)))
    else:
        rows = _as_text(_workbook(name, data))
    rows.columns = _named_columns(name, list(rows.columns))
    if rows.empty:
        raise DataError(f"{name!r} has no rows: give a table with a row for each image.")
    return Table(name, rows.reset_index(drop=True), sha256, key)


def _unpacked(name: str, data: bytes) -> bytes:
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{name!r} is no gzip file, or damaged ({error}): copy it again.") from error


def _delimited(name: str, data: bytes, suffix: str, header: Sequence[str]) -> pd.DataFrame:
    try:
        first = data[: data.find(b"\n") + 1 or None].decode("utf-8-sig")
        delimiter = next((sign for sign in DELIMITERS[suffix] if sign in first), ",")
        columns = list(header) or next(csv.reader([first.rstrip("\r\n")], delimiter=delimiter, strict=True), [])
        table = _arrow_table(data, delimiter, columns, has_names=not header)
    except (UnicodeDecodeError, csv.Error, pa.ArrowInvalid) as error:
        cause = str(error).partition("\n")[0].removeprefix("CSV parse error: ")
        raise DataError(
            f"{name!r} is no table in UTF-8 with a value for each column in each line ({cause}): export it again, with "
            "values that hold the separator in quotation marks."
        ) from error
    rows = _as_text(table.to_pandas())
    rows.columns = columns
    return rows


def _arrow_table(data: bytes, delimiter: str, columns: Sequence[str], *, has_names: bool) -> pa.Table:
    """Return the lines as text columns; their names are numbers, as names may be blank or occur twice."""
    if not columns:
        return pa.table({})
    numbers = [str(k) for k in range(len(columns))]
    read = arrow_csv.ReadOptions(column_names=numbers, skip_rows_after_names=int(has_names))
    parse = arrow_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    convert = arrow_csv.ConvertOptions(column_types=dict.fromkeys(numbers, pa.string()))
    return arrow_csv.read_csv(io.BytesIO(data), read, parse, convert)


def _json_lines(name: str, data: bytes) -> pd.DataFrame:
    try:
        return _as_text(pd.read_json(io.BytesIO(data), lines=True, dtype=False))
    except ValueError as error:
        raise DataError(f"{name!r} is no file of JSON lines ({error}): export it again.") from error


def _workbook(name: str, data: bytes) -> pd.DataFrame:
    if importlib.util.find_spec("openpyxl") is None:
        raise ConfigError(f"{name!r} is an Excel workbook: pip install 'cxr[excel]', or save the table as CSV.")
    try:
        return _as_text(pd.read_excel(io.BytesIO(data), dtype=object, engine="openpyxl"))
    except (ValueError, KeyError, OSError, BadZipFile) as error:
        raise DataError(f"{name!r} is no Excel workbook ({error}): save it again.") from error


def _as_text(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the columns of single values as text; whole numbers have no decimal point."""
    columns = {name: _text(frame[name]) for name in frame if not _holds_parts(frame[name])}
    return pd.DataFrame(columns, index=frame.index)


def _holds_parts(column: pd.Series) -> bool:
    """Return whether a column holds lists, records or bytes, which are no labels."""
    known = column.dropna().head(100)
    return bool(known.map(lambda value: isinstance(value, list | dict | bytes) or hasattr(value, "shape")).any())


def _text(column: pd.Series) -> pd.Series:
    if pd.api.types.is_float_dtype(column) and (column.dropna() % 1 == 0).all():
        column = column.astype("Int64")
    text = column.astype("string").astype("str").str.strip()
    return text.where(text != "")


def _named_columns(name: str, columns: Sequence[object]) -> list[str]:
    """Return the columns' names; a blank one, as from a comma at the end of a line, is named by its number.

    Raises:
        DataError: two columns have the same name.
    """
    names = [str(column).strip() or f"column {k}" for k, column in enumerate(columns, 1)]
    twice = next((column for column in names if names.count(column) > 1), None)
    if twice is not None:
        raise DataError(f"{name!r} has two columns {twice!r}: rename one of them.")
    return names
