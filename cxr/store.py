"""Atomic writes and locks: a reader never sees half a file, and a dead process holds nothing.

Writers fill a temporary name beside the target, flush it to the disk and rename it. A full disk is told in
one sentence and leaves what stood there before.
"""

import errno
import fcntl
import json
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock, Timeout

from cxr.errors import DamagedError, DiskFullError, RunError

log = logging.getLogger(__name__)

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path; once filled it takes the place of `path` in one step, or nothing changes.

    Raises:
        DiskFullError: there is no space left.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise DiskFullError(
            f"no space is left to write {str(path)!r}: free some and type the same command again; nothing is lost."
        ) from error
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
    for leftover in folder.rglob(".*.tmp"):
        leftover.unlink(missing_ok=True)


def write_json(path: Path, value: object) -> None:
    """Write `value` as indented JSON."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Return the object that `write_json` wrote; DamagedError if it is not as it was written."""
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise _damaged(path, error) from error


def write_text(path: Path, text: str) -> None:
    """Write `text` in UTF-8."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def append_line(path: Path, line: str) -> None:
    """Append a line in one step, whole among those of other processes; a full disk loses the line, not the work."""
    try:
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
        log.warning("%s could not be added to: %s", path, error.strerror)


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
        return pd.read_parquet(path, columns=columns, filters=filters, page_checksum_verification=True)
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
    lock_file.parent.mkdir(parents=True, exist_ok=True)
    holder = lock_file.with_suffix(".json")
    try:
        with FileLock(lock_file, timeout=patience_s):
            write_json(holder, {"pid": os.getpid(), "host": socket.gethostname(), "since": now()})
            yield
    except Timeout:
        who = read_json(holder) if holder.exists() else {}
        raise RunError(
            f"{what} is in use by process {who.get('pid', '?')} on {who.get('host', '?')} "
            f"since {who.get('since', '?')}: wait for it to end, or stop it."
        ) from None
