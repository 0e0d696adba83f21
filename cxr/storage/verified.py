"""Files of runs and models, held against the hashes in `SHA256SUMS`, which each of their folders has.

`sha256sum --check SHA256SUMS` verifies a folder without cxr. A file's new hash is recorded beside the old one before
the file is replaced, and the old one is dropped afterwards. So whenever a process is killed, the hash of the file on
disk is in the record. A file that does not exist yet, or is about to be removed, has the hash ABSENT beside its own.

The record of a folder within a run also has the hash of the run's `run_id`, so that the folder of another run is
noticed, although its files and its record agree.

A writer holds the lock of the run, the fold or the model. A reader holds no lock: it rereads as long as the record
changes.
"""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd

from cxr.errors import DamagedError
from cxr.storage import appraisal_folder, files, model_folder, run_folder
from cxr.storage.run_folder import SUMS

LINE = re.compile(r"^([0-9a-f]{64})  ((?:\.\./)*[\w.-]+)\n", re.ASCII | re.MULTILINE)
ABSENT = "0" * 64
Sums = dict[str, tuple[str, ...]]
"""SHA-256 of each file in a folder, by its name; two while the file is being replaced."""


def read_bytes(path: Path) -> bytes:
    """Return a file's bytes.

    Raises:
        DamagedError: it is missing, was changed, or is not recorded.
    """
    return _read_and_hash(path)[0]


def _read_and_hash(path: Path) -> tuple[bytes, str]:
    record = _read(path.with_name(SUMS))
    while True:
        data = _read(path)
        digest = hashlib.sha256(data or b"").hexdigest()
        fault = _fault(path, data, digest, record)
        if data is not None and fault is None:
            return data, digest
        before, record = record, _read(path.with_name(SUMS))
        if record == before:  # otherwise the file was replaced in between
            raise _damaged(path, fault or "is missing")


def _read(path: Path) -> bytes | None:
    try:
        return files.read_bytes(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DamagedError(
            f"{str(path)!r} cannot be read ({error.strerror or error}): check its permissions and the disk, or "
            f"{_way_out(path)}."
        ) from error


def _fault(path: Path, data: bytes | None, digest: str, record: bytes | None) -> str | None:
    """Return what is wrong with a file, given its bytes, their hash and the folder's record; None if nothing is."""
    if data is None:
        return "is missing"
    if record is None:
        return f"is not verifiable, because {SUMS} beside it is missing"
    sums = _parse(record)
    if as_text(sums) != record.decode(errors="replace"):
        return f"is not verifiable, because {SUMS} beside it is damaged"
    if path.name not in sums:
        return f"is not in {SUMS} beside it"
    if digest not in sums[path.name]:
        return "was changed since cxr wrote it" if data else "is empty"
    return None if _ties(sums) == _tie(path.parent) else "belongs to another run, as its whole folder does"


def _ties(sums: Sums) -> Sums:
    """Return the hashes of files that are not in the record's own folder."""
    return {name: digests for name, digests in sums.items() if "/" in name}


def _tie(folder: Path) -> Sums:
    """Return the hash of the `run_id` of the run that a folder is in; none for any other folder."""
    depth = run_folder.depth(folder)
    if not depth:
        return {}
    run_id = folder.parents[depth - 1] / "run_id"
    try:
        return {"../" * depth + run_id.name: (sha256_of(run_id),)}
    except DamagedError:
        if exists(run_id):
            raise
        return {}  # an older version of cxr made the run


def _damaged(path: Path, fault: str) -> DamagedError:
    return DamagedError(f"{str(path)!r} {fault}: put back a copy, or {_way_out(path)}.")


def _way_out(path: Path) -> str:
    return model_folder.way_out(path) or appraisal_folder.way_out(path) or run_folder.way_out(path)


def _parse(record: bytes) -> Sums:
    """Return the hashes in the lines that are whole."""
    sums: Sums = {}
    for digest, name in LINE.findall(record.decode(errors="replace")):
        sums[name] = (*sums.get(name, ()), digest)
    return sums


def as_text(sums: Sums) -> str:
    """Return the record of these hashes, as `sha256sum --check` reads it."""
    return "".join(f"{digest}  {name}\n" for name, digests in sorted(sums.items()) for digest in digests)


def recorded(folder: Path) -> Sums:
    """Return the hashes that a folder's record holds; none where it has no record, or a damaged one."""
    return _parse(_read(folder / SUMS) or b"")


def exists(path: Path) -> bool:
    """Return whether a file is there, or should be: reading it then raises DamagedError."""
    return _is_expected(recorded(path.parent).get(path.name)) or path.exists()


def _is_expected(digests: tuple[str, ...] | None) -> bool:
    return digests is not None and ABSENT not in digests


def files_in(folder: Path, suffix: str) -> list[Path]:
    """Return the files with a suffix that are in a folder, or should be, by name."""
    expected = {name for name, digests in recorded(folder).items() if _is_expected(digests)}
    names = expected | {path.name for path in folder.glob(f"*{suffix}")}
    return [folder / name for name in sorted(names) if name.endswith(suffix)]


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal; raise as `read_bytes` does."""
    return _read_and_hash(path)[1]


@contextmanager
def local_copy(path: Path) -> Iterator[Path]:
    """Yield a file on this machine with the bytes and the name of `path`; raise as `read_bytes` does."""
    read_bytes(path)
    with files.local_copy(path) as copy:
        yield copy


def read_json(path: Path) -> dict[str, Any]:
    """Return the object that `write_json` wrote; raise as `read_bytes` does."""
    return files.parse_json(path, read_bytes(path))


def read_record(path: Path) -> dict[str, Any]:
    """Return the description of a run or a package, as `write_json` wrote it.

    Raises:
        DamagedError: it is missing, was changed, or is not recorded.
        FormatError: another version of cxr wrote it, be it one that recorded no hashes.
    """
    data = _read(path)
    if data is not None and _read(path.with_name(SUMS)) is None:
        with suppress(DamagedError):
            files.require_format(path, files.parse_json(path, data))
    return files.require_format(path, read_json(path))


def read_table(path: Path) -> pd.DataFrame:
    """Return the table that `write_table` wrote; raise as `read_bytes` does."""
    return files.parse_table(path, BytesIO(read_bytes(path)))


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path; when the block ends, that file replaces `path` in one step and is recorded."""
    with files.replacing(path) as temporary:
        yield temporary
        digest = files.sha256_of(temporary)
        before = recorded(path.parent).get(path.name, (ABSENT,))
        _record(path.parent, {path.name: tuple(dict.fromkeys((*before, digest)))})
    _record(path.parent, {path.name: (digest,)})


def write_json(path: Path, value: object) -> None:
    """Write `value` as indented JSON."""
    write_text(path, files.as_json(value))


def write_text(path: Path, text: str) -> None:
    """Write `text` in UTF-8."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write `table` as Parquet, without its index, with a checksum of every page."""
    with replacing(path) as temporary:
        files.save_table(temporary, table)


def record_all(folder: Path) -> None:
    """Record every file of a folder on this machine as it is, in place of what was recorded before."""
    paths = [path for path in folder.iterdir() if path.name != SUMS]
    files.write_text(folder / SUMS, as_text({path.name: (files.sha256_of(path),) for path in paths}))


def remove(*paths: Path) -> None:
    """Remove files, in this order, where they are there."""
    for path in paths:
        before = recorded(path.parent).get(path.name, ())
        if before:
            _record(path.parent, {path.name: (*before, ABSENT)})
        path.unlink(missing_ok=True)
        _record(path.parent, {path.name: ()})


def _record(folder: Path, changed: Sums) -> None:
    """Replace the hashes of these files in a folder's record; a record with none left is removed.

    What another run recorded is dropped.
    """
    before, tie = recorded(folder), _tie(folder)
    own = before if _ties(before) == tie else {}
    after = {name: digests for name, digests in (own | changed).items() if digests} | tie
    if after == tie:
        (folder / SUMS).unlink(missing_ok=True)
    elif after != before:
        files.write_text(folder / SUMS, as_text(after))
