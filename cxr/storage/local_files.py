"""Files on this machine's disks: written whole or not at all, locked by the operating system.

A writer fills a temporary file beside the target, flushes it to the disk and renames it. The operating system releases
a lock when its holder dies. `cxr.storage.object_store` keeps the same promises in a bucket.
"""

import errno
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from cxr.errors import DiskFullError, RunError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def disk_full_as_error(path: Path) -> Iterator[None]:
    """Turn the operating system's error about a full disk into DiskFullError."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise DiskFullError(
            f"no space is left to write {str(path)!r}: free some and type the same command again; nothing is lost."
        ) from error


def read_bytes(path: Path) -> bytes:
    """Return a file's bytes, all from before or all from after it was replaced."""
    return path.read_bytes()


def open_binary(path: Path) -> Path:
    """Return what pyarrow can read the file from."""
    return path


@contextmanager
def local_copy(path: Path) -> Iterator[Path]:
    """Yield the file itself."""
    yield path


@contextmanager
def replacing(path: Path, *, through: Path | None = None) -> Iterator[Path]:
    """Yield a temporary path; when the block ends, that file replaces `path` in one step, or nothing changes.

    Args:
        path: the file.
        through: folder of the temporary file, on the same disk; by default that of the file.

    Raises:
        DiskFullError: no space is left.
    """
    temporary = (through or path.parent) / f".{path.name}.{os.getpid()}.tmp"
    with disk_full_as_error(path):
        try:
            if not path.parent.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                _sync_folder(path.parent.parent)
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
    """Remove the temporary files that a killed process left under `folder`."""
    for leftover in folder.rglob(".*.tmp"):
        leftover.unlink(missing_ok=True)


def append_line(path: Path, line: str) -> None:
    """Append a line in one step, whole among the lines of other processes.

    Raises:
        OSError: the line could not be written, for example because the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # until the descriptor is closed
        n_bytes = os.fstat(descriptor).st_size
        is_cut_off = n_bytes > 0 and os.pread(descriptor, 1, n_bytes - 1) != b"\n"  # by a full disk
        start = "\n" if is_cut_off else ""
        os.write(descriptor, f"{start}{line}\n".encode())
    finally:
        os.close(descriptor)


@contextmanager
def locked(lock_file: Path, what: str, owner: Mapping[str, Any], *, patience_s: float) -> Iterator[None]:
    """Hold a lock on a file while the block runs; see `cxr.storage.files.locked`."""
    lock_file.parent.mkdir(parents=True, exist_ok=True)
    holder = lock_file.with_suffix(".json")
    try:
        with FileLock(lock_file, timeout=patience_s):
            with replacing(holder) as temporary:
                temporary.write_text(json.dumps(owner, indent=2) + "\n", encoding="utf-8")
            yield
    except Timeout:
        raise RunError.in_use(what, json.loads(read_bytes(holder)) if holder.exists() else {}) from None
