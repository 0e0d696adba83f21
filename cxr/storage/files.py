"""Atomic writes and locks: no reader sees half a file, and the lock of a dead process is free.

A path is a file on this machine or, below `located("s3://…")`, an object in an object store. `_backend` alone knows
which of the two: `local_files` and `object_store` keep the same promises. A full disk ends in one sentence and leaves
the old file in place.
"""

import hashlib
import json
import logging
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from cxr.errors import ConfigError, DamagedError, FormatError
from cxr.storage import local_files, object_store

log = logging.getLogger(__name__)

FORMAT = 3
"""Version of the names on disk and the columns of tables; every run, package and scoring run records its own."""
FINDINGS_FORMAT = 4
"""That of runs and packages with several findings per image, which the programs that know only format 3 refuse."""
READ_FORMATS = (FORMAT, FINDINGS_FORMAT)


class _Backend(Protocol):
    """What `local_files` and `object_store` both do."""

    def read_bytes(self, path: Path) -> bytes: ...

    def open_binary(self, path: Path) -> Path | BytesIO: ...

    def local_copy(self, path: Path) -> AbstractContextManager[Path]: ...

    def replacing(self, path: Path) -> AbstractContextManager[Path]: ...

    def sweep(self, folder: Path) -> None: ...

    def append_line(self, path: Path, line: str) -> None: ...

    def locked(
        self, lock_file: Path, what: str, owner: Mapping[str, Any], *, patience_s: float
    ) -> AbstractContextManager[None]: ...


def _backend(path: Path) -> _Backend:
    """Return the module that reads and writes at a path."""
    return object_store if object_store.is_object(path) else local_files


def _backend_to_write(path: Path) -> _Backend:
    """Return the module that writes at a path.

    Raises:
        ConfigError: the path is a URL that `located` was not asked to open.
    """
    backend = _backend(path)
    if backend is local_files:
        require_local("everything but a run", path)
    return backend


def located(path: Path) -> Path:
    """Return the absolute path that a user's path stands for, or the path in an object store where it is a URL.

    Raises:
        ConfigError: the object store cannot be reached.
    """
    is_url = object_store.names_object(path)
    return object_store.open_path(object_store.url_of(path)) if is_url else path.resolve()


def require_local(what: str, path: Path) -> None:
    """Raise ConfigError if a path is a URL, where only a folder of files will do."""
    if object_store.is_object(path) or object_store.names_object(path):
        raise ConfigError(
            f"{what} needs a folder of files, got {object_store.url_of(path)!r}: only runs (--experiments) and the "
            "inbox of `cxr score` can be in an object store."
        )


def read_bytes(path: Path) -> bytes:
    """Return a file's bytes, all from before or all from after it was replaced."""
    return _backend(path).read_bytes(path)


def local_copy(path: Path) -> AbstractContextManager[Path]:
    """Yield a file on this machine with the bytes and the name of `path`: `path` itself if it is on this machine."""
    return _backend(path).local_copy(path)


def replacing(path: Path) -> AbstractContextManager[Path]:
    """Yield a temporary path; when the block ends, that file replaces `path` in one step, or nothing changes.

    Raises:
        DiskFullError: no space is left.
    """
    return _backend_to_write(path).replacing(path)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield an empty hidden folder on this machine; when the block ends, it takes the place of `path` as a whole.

    If the block raises, nothing changes. Call it under a lock of `path`: what a killed process left is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    made, gone = (path.with_name(f".{kind}-{path.name}") for kind in ("making", "replaced"))
    for leftover in (made, gone):
        shutil.rmtree(leftover, ignore_errors=True)
    made.mkdir()
    try:
        yield made
        if path.exists():
            path.rename(gone)
        made.rename(path)
    finally:
        for leftover in (made, gone):
            shutil.rmtree(leftover, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Remove the temporary files that a killed process left under `folder`; call it under the lock."""
    _backend(folder).sweep(folder)


def write_json(path: Path, value: object) -> None:
    """Write `value` as indented JSON."""
    write_text(path, as_json(value))


def as_json(value: object) -> str:
    """Return `value` as indented JSON."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def read_json(path: Path) -> dict[str, Any]:
    """Return the object that `write_json` wrote.

    Raises:
        DamagedError: the file is not as it was written.
    """
    return parse_json(path, read_bytes(path))


def parse_json(path: Path, data: bytes) -> dict[str, Any]:
    """Return the object in the bytes of a JSON file.

    Raises:
        DamagedError: the bytes are no JSON, or no object.
    """
    try:
        value = json.loads(data)
    except ValueError as error:
        raise _damaged(path, error) from error
    if not isinstance(value, dict):
        raise _damaged(path, TypeError(f"it holds {value!r:.40}, not an object"))
    return value


def read_record(path: Path) -> dict[str, Any]:
    """Return the description of a scoring run, as `write_json` wrote it.

    Raises:
        DamagedError: the file is not as it was written.
        FormatError: another version of cxr wrote it.
    """
    return require_format(path, read_json(path))


def require_format(path: Path, record: dict[str, Any]) -> dict[str, Any]:
    """Return the record in a file; raise FormatError if another version of cxr wrote it."""
    if record.get("format") not in READ_FORMATS:
        found = f"format {record['format']}" if "format" in record else "no format number"
        raise FormatError(
            f"{str(path)!r} has {found}, this cxr reads format {' and '.join(map(str, READ_FORMATS))}: "
            "make it again, or use the version that wrote it."
        )
    return record


def write_text(path: Path, text: str) -> None:
    """Write `text` in UTF-8."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def deliver(path: Path, data: bytes, *, through: Path) -> None:
    """Write a file on this machine by way of a folder on the same disk, for a place whose every file is read.

    Raises:
        DiskFullError: no space is left.
    """
    with local_files.replacing(path, through=through) as temporary:
        temporary.write_bytes(data)


def link(source: Path, path: Path) -> None:
    """Give a file that is never changed another name on this machine; copy it where there are no hard links."""
    try:
        os.link(source, path)
    except OSError:
        with replacing(path) as temporary:
            shutil.copyfile(source, temporary)


def append_line(path: Path, line: str) -> None:
    """Append a line in one step, whole among the lines of other processes.

    A line that cannot be written, for example because the disk is full, is logged and lost; the work goes on.
    """
    try:
        _backend(path).append_line(path, line)
    except OSError as error:
        log.warning("%s could not be appended to: %s", path, error.strerror or error)


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write `table` as Parquet, without its index, with a checksum of every page."""
    with replacing(path) as temporary:
        save_table(temporary, table)


def save_table(temporary: Path, table: pd.DataFrame) -> None:
    """Fill a temporary file as `write_table` does."""
    table.to_parquet(temporary, index=False, write_page_checksum=True)


def read_table(path: Path, columns: list[str] | None = None, filters: Any = None) -> pd.DataFrame:
    """Return the table that `write_table` wrote, or some of its columns or rows.

    Args:
        path: the Parquet file.
        columns: names of the columns to read; None for all.
        filters: which rows to read, as for `pandas.read_parquet`; None for all.

    Raises:
        DamagedError: the file is not as it was written.
    """
    return parse_table(path, _backend(path).open_binary(path), columns, filters)


def parse_table(
    path: Path, source: Path | BytesIO, columns: list[str] | None = None, filters: Any = None
) -> pd.DataFrame:
    """Return the table in a Parquet file, from the file itself or from its bytes; otherwise like `read_table`."""
    try:
        return pd.read_parquet(source, columns=columns, filters=filters, page_checksum_verification=True)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:  # pyarrow's errors are subclasses of these
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> DamagedError:
    cause = str(error).partition("\n")[0]
    return DamagedError(f"{str(path)!r} is damaged ({cause}): put back a copy, or delete it and make it again.")


def now() -> str:
    """Return the time in UTC, to the second, as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@contextmanager
def locked(lock_file: Path, what: str, *, patience_s: float = 0.0) -> Iterator[None]:
    """Hold `lock_file` for this process while the block runs; if the process dies, the lock is free.

    Args:
        lock_file: created if it is missing; the holder's process id and host are written beside it.
        what: what is being held, for the error, such as "run real64".
        patience_s: how long to wait for another holder before giving up, in seconds.

    Raises:
        RunError: another living process holds the lock; the message names that process.
    """
    owner = {"pid": os.getpid(), "host": socket.gethostname(), "since": now()}
    with _backend_to_write(lock_file).locked(lock_file, what, owner, patience_s=patience_s):
        yield


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file on this machine, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
