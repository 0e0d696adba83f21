"""A tar archive, plain or in gzip, read in place.

tarfile reads the headers alone, once and forward; members are then read at their places. tarfile ends in silence at a
header that is damaged, and where the file does, so the archive has to end with the zeros that every tar ends with.

Source: POSIX.1-2017, pax (ustar and pax formats).
"""

import re
import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import IO, Protocol, cast

from cxr.errors import DataError
from cxr.images.archives.gzip_index import MAGIC, GzipIndex, OnePass
from cxr.images.archives.zip_archive import MAX_FREE_BYTES, MAX_RATIO
from cxr.wording import printable

USTAR = slice(257, 262)
"""Where every tar of the last decades says `ustar`."""
HEADER_BYTES = 512
MAX_HEADER_BYTES = 2**20
"""Of a member: a long name, or pax records. tarfile reads as many bytes as a header asks for."""
MAX_MEMBERS = 2_000_000
REST_BYTES = 2**20


class Headers(Protocol):
    """What tarfile needs of a file."""

    def read(self, n_bytes: int, /) -> bytes: ...

    def seek(self, offset: int, /) -> int: ...

    def tell(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Member:
    """A file in the archive."""

    offset: int
    """Of its first byte, in the archive or in what its gzip holds."""
    n_bytes: int
    refused: str | None
    """Why it is not read."""


@dataclass(frozen=True)
class Contents:
    """What an archive holds, and where."""

    gzip: GzipIndex | None
    """None for a plain tar."""
    members: dict[str, Member] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)


class TarArchive:
    """A tar archive, plain or in gzip; it looks into the file when it is first asked for one."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def sizes(self) -> Mapping[str, int]:
        return {path: member.n_bytes for path, member in self._contents.members.items()}

    def empty_folders(self) -> list[str]:
        paths = [*self._contents.members, *self._contents.folders]
        filled = {parent.as_posix() for path in paths for parent in PurePosixPath(path).parents}
        return sorted(self._contents.folders - filled)

    def read(self, path: str) -> bytes:
        return self.head(path, self._contents.members[path].n_bytes)

    def head(self, path: str, n_bytes: int) -> bytes:
        member = self._contents.members[path]
        if member.refused:
            raise OSError(member.refused)
        n_bytes = min(n_bytes, member.n_bytes)
        try:
            data = self._read_at(member.offset, n_bytes)
        except (EOFError, zlib.error) as error:
            raise OSError(f"damaged in the tar ({error})") from error
        if len(data) < n_bytes:
            raise OSError("the tar ends early")
        return data

    @property
    def _contents(self) -> Contents:
        facts = self._path.stat()
        return _read_contents(self._path, f"{facts.st_size} {facts.st_mtime_ns} {facts.st_ino}")

    def _read_at(self, offset: int, n_bytes: int) -> bytes:
        if self._contents.gzip is not None:
            return self._contents.gzip.read_at(offset, n_bytes)
        with self._path.open("rb") as file:
            file.seek(offset)
            return file.read(n_bytes)


def is_tar(path: Path) -> bool:
    """Return whether a file begins as a tar or a gzip file does."""
    with path.open("rb") as file:
        head = file.read(HEADER_BYTES)
    return head.startswith(MAGIC) or head[USTAR] == b"ustar"


class _Guarded:
    """Headers that are read forward only, and of which no member has more than `MAX_HEADER_BYTES`."""

    def __init__(self, headers: Headers) -> None:
        self._headers = headers
        self.last = b""
        """What was read last."""
        self.begin_member()

    def begin_member(self) -> None:
        """Allow the headers of another member."""
        self._left = MAX_HEADER_BYTES

    def read(self, n_bytes: int = -1) -> bytes:
        self._left -= n_bytes
        if n_bytes < 0 or self._left < 0:
            raise tarfile.ReadError(f"a member with more than {MAX_HEADER_BYTES:,} bytes of headers")
        self.last = self._headers.read(n_bytes)
        return self.last

    def seek(self, offset: int) -> int:
        if offset < self._headers.tell():
            raise tarfile.ReadError("a member that begins before the last one has ended")
        return self._headers.seek(offset)

    def tell(self) -> int:
        return self._headers.tell()


@lru_cache(maxsize=2)
def _read_contents(path: Path, _state: str) -> Contents:
    """Return what an archive holds; the same answer until the file changes.

    Raises:
        DataError: the archive is damaged, truncated or unsafe, or two members have the same path.
    """
    with path.open("rb") as file:
        is_gzip = file.read(len(MAGIC)) == MAGIC
        file.seek(0)
        contents = Contents(GzipIndex(path) if is_gzip else None)
        try:
            headers = OnePass(file, contents.gzip, _most_bytes(path)) if contents.gzip else file
            _add_members(contents, headers, path)
            _require_zeros(headers, path)
        except OverflowError as error:
            raise DataError(
                f"the tar {str(path)!r} is unsafe: it unpacks to more than {_most_bytes(path):,} bytes, "
                f"{MAX_RATIO} times its own size."
            ) from error
        except (tarfile.TarError, EOFError, zlib.error, OSError, ValueError, RecursionError) as error:
            raise DataError(f"the tar {str(path)!r} is damaged or no tar ({error}): fetch or make it again.") from error
    return contents


def _add_members(contents: Contents, headers: Headers, path: Path) -> None:
    guarded = _Guarded(headers)
    archive = tarfile.TarFile(fileobj=cast(IO[bytes], guarded), encoding="utf-8", errors="surrogateescape")
    n_members = 0
    while (info := archive.next()) is not None:
        n_members += 1
        archive.members.clear()  # pyright: ignore[reportAttributeAccessIssue] tarfile would keep them all
        guarded.begin_member()
        _add(contents, info, path)
        if n_members > MAX_MEMBERS:
            raise DataError(f"the tar {str(path)!r} has more than {MAX_MEMBERS:,} members: give a folder.")
    if guarded.last != bytes(HEADER_BYTES):
        raise tarfile.ReadError("a header is damaged, or the end is missing")


def _add(contents: Contents, info: tarfile.TarInfo, archive: Path) -> None:
    """Add a member under its path, which is spelt as that of a file on disk would be."""
    if info.name.startswith("/") or ".." in info.name.split("/") or re.match(r"[A-Za-z]:[/\\]", info.name):
        raise DataError(f"the tar {str(archive)!r} is unsafe: member {info.name!r} leads out of it.")
    path = printable(PurePosixPath(info.name))
    if info.isdir():
        contents.folders.add(path)
    elif path in contents.members:
        raise DataError(
            f"the tar {str(archive)!r} has two members for one path, {info.name!r}, and only one could be read: make "
            "the archive again with one of them."
        )
    else:
        contents.members[path] = Member(info.offset_data, info.size if info.isreg() else 0, _why_not(info))


def _why_not(info: tarfile.TarInfo) -> str | None:
    """Return why a member is not read: it is no file, or its bytes do not stand together."""
    if info.issym() or info.islnk():
        return "a link inside a tar"
    if not info.isreg():
        return "not a regular file"
    return "stored with gaps in the tar" if info.issparse() else None


def _require_zeros(headers: Headers, path: Path) -> None:
    """Read to the end, which shows what a gzip file's checksum says; raise DataError if anything but zeros is there."""
    while rest := headers.read(REST_BYTES):
        if rest.count(0) < len(rest):
            raise DataError(
                f"the tar {str(path)!r} goes on behind its end, as two that were joined do: make the archive again."
            )


def _most_bytes(path: Path) -> int:
    return max(MAX_FREE_BYTES, MAX_RATIO * path.stat().st_size)
