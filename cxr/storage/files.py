"""Atomic writes and locks: a reader never sees half a file, and a dead process holds nothing.

Writers fill a temporary name beside the target, flush it to the disk and rename it. A full disk is told in
one sentence and leaves what stood there before. Of a path in an object store `cxr.object_store` keeps the same
promises; who calls this module need not know which it is.
"""

import errno
import fcntl
import hashlib
import io
import json
import logging
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock, Timeout

from cxr.errors import ConfigError, DamagedError, DiskFullError, FormatError, RunError
from cxr.storage import object_store

log = logging.getLogger(__name__)

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
FORMAT = 3
"""Of the names on disk and the columns of tables; every run, package and scoring run says which one it has."""


def located(path: Path) -> Path:
    """Return what a path names that somebody typed: whole, or a path in an object store where it is a URL.

    Raises:
        ConfigError: the object store cannot be reached.
    """
    url = object_store.names_object(path)
    return object_store.open_path(object_store.url_of(path)) if url else path.resolve()


def require_local(what: str, path: Path) -> None:
    """Raise ConfigError where a path is a URL and only a folder of files will do."""
    if object_store.is_object(path) or object_store.names_object(path):
        raise ConfigError(
            f"{what} needs a folder of files, got {object_store.url_of(path)!r}: an object store holds runs alone "
            "(--experiments)."
        )


def read_bytes(path: Path) -> bytes:
    """Return a file's bytes, all from before or all from after it was replaced."""
    return object_store.read_bytes(path) if object_store.is_object(path) else path.read_bytes()


@contextmanager
def local_copy(path: Path) -> Iterator[Path]:
    """Yield a file of this machine with the bytes and the name of `path`: itself, if it is one."""
    if not object_store.is_object(path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="cxr-") as folder:
        copy = Path(folder) / path.name
        copy.write_bytes(read_bytes(path))
        yield copy


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path; once filled it takes the place of `path` in one step, or nothing changes.

    Raises:
        DiskFullError: there is no space left.
    """
    try:
        with (object_store.replacing if object_store.is_object(path) else _replacing_file)(path) as temporary:
            yield temporary
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise DiskFullError(
            f"no space is left to write {str(path)!r}: free some and type the same command again; nothing is lost."
        ) from error


@contextmanager
def _replacing_file(path: Path) -> Iterator[Path]:
    require_local("everything but a run", path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep(folder: Path) -> None:
    """Remove the temporary files that a killed process left under `folder`; call it under the lock."""
    if object_store.is_object(folder):
        object_store.sweep(folder)
        return
    for leftover in folder.rglob(".*.tmp"):
        leftover.unlink(missing_ok=True)


def write_json(path: Path, value: object) -> None:
    """Write `value` as indented JSON."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Return the object that `write_json` wrote; DamagedError if it is not as it was written."""
    try:
        return json.loads(read_bytes(path))
    except ValueError as error:
        raise _damaged(path, error) from error


def read_record(path: Path) -> dict[str, Any]:
    """Return what describes a run, a package or a scoring run, as `write_json` wrote it.

    Raises:
        DamagedError: it is not as it was written.
        FormatError: another version of cxr wrote it.
    """
    record = read_json(path)
    if record.get("format") != FORMAT:
        made = f"format {record['format']}" if "format" in record else "no format number"
        raise FormatError(
            f"{str(path)!r} has {made}, this cxr reads format {FORMAT}: make it anew, or use the version that wrote it."
        )
    return record


def write_text(path: Path, text: str) -> None:
    """Write `text` in UTF-8."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def append_line(path: Path, line: str) -> None:
    """Append a line in one step, whole among those of other processes; a full disk loses the line, not the work."""
    try:
        if object_store.is_object(path):
            object_store.append_line(path, line)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # until it is closed
            n_bytes = os.fstat(descriptor).st_size
            is_cut_off = n_bytes > 0 and os.pread(descriptor, 1, n_bytes - 1) != b"\n"  # by a full disk
            os.write(descriptor, f"{chr(10) * is_cut_off}{line}\n".encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        log.warning("%s could not be added to: %s", path, error.strerror or error)


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write `table` as Parquet, without its index, with a checksum of every page."""
    with replacing(path) as temporary:
        table.to_parquet(temporary, index=False, write_page_checksum=True)


def read_table(path: Path, columns: list[str] | None = None, filters: Any = None) -> pd.DataFrame:
    """Return the table that `write_table` wrote, or some columns or rows of it.

    Raises:
        DamagedError: it is not as it was written.
    """
    try:
        source = io.BytesIO(read_bytes(path)) if object_store.is_object(path) else path
        return pd.read_parquet(source, columns=columns, filters=filters, page_checksum_verification=True)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:  # pyarrow's errors are among these
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> DamagedError:
    cause = str(error).partition("\n")[0]
    return DamagedError(f"{str(path)!r} is damaged ({cause}): put back a copy, or delete it and make it anew.")


def now() -> str:
    """Return the time in UTC, to the second, as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@contextmanager
def locked(lock_file: Path, what: str, *, patience_s: float = 0.0) -> Iterator[None]:
    """Hold `lock_file` for this process; a process that dies lets go.

    Args:
        lock_file: made if it is missing; the holder's name stands beside it.
        what: what is being held, for the error, such as "run real64".
        patience_s: how long to wait for another holder before giving up.

    Raises:
        RunError: another living process holds it; the sentence names that process.
    """
    owner = {"pid": os.getpid(), "host": socket.gethostname(), "since": now()}
    if object_store.is_object(lock_file):
        with object_store.locked(lock_file, what, owner, patience_s=patience_s):
            yield
        return
    require_local("everything but a run", lock_file)
    lock_file.parent.mkdir(parents=True, exist_ok=True)
    holder = lock_file.with_suffix(".json")
    try:
        with FileLock(lock_file, timeout=patience_s):
            write_json(holder, owner)
            yield
    except Timeout:
        raise RunError.in_use(what, read_json(holder) if holder.exists() else {}) from None


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
