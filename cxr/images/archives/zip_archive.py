"""A zip archive, read in place.

A path names one file: a zip in which two members have the same path is refused, as is one whose members lead out of it.
"""

import re
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from cxr.errors import DataError

MAX_RATIO = 100
"""How many times its own size an archive may unpack to; X-ray JPEGs and PNGs hardly shrink in one."""
MAX_FREE_BYTES = 256 * 2**20
"""An archive that unpacks to no more than this is never refused."""


class ZipArchive:
    """A zip archive, read in place."""

    def __init__(self, path: Path) -> None:
        try:
            self._archive = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError, NotImplementedError, UnicodeDecodeError) as error:
            raise DataError(f"the zip {str(path)!r} cannot be opened: {error}.") from error
        self._members: dict[str, zipfile.ZipInfo] = {}
        self._folders: set[str] = set()
        for info in self._archive.infolist():
            self._add(info, path)
        unpacked = sum(info.file_size for info in self._archive.infolist())
        if unpacked > max(MAX_FREE_BYTES, MAX_RATIO * path.stat().st_size):
            raise DataError(
                f"the zip {str(path)!r} is unsafe: it unpacks to {unpacked:,} bytes, "
                f"more than {MAX_RATIO} times its own size."
            )

    def _add(self, info: zipfile.ZipInfo, archive: Path) -> None:
        """Add a member under its path: Windows tools separate names by backslashes, others write `./` or `//`."""
        name = info.filename.replace("\\", "/")
        parts = name.split("/")
        if name.startswith("/") or ".." in parts or re.match(r"[A-Za-z]:", name):
            raise DataError(f"the zip {str(archive)!r} is unsafe: member {info.filename!r} leads out of it.")
        path = "/".join(part for part in parts if part not in {"", "."})
        if name.endswith("/"):
            self._folders.add(path)
        elif path in self._members:
            raise DataError(
                f"the zip {str(archive)!r} has two members for one path, {self._members[path].filename!r} and "
                f"{info.filename!r}, and only one could be read: make the archive again with one of them."
            )
        else:
            self._members[path] = info

    def sizes(self) -> Mapping[str, int]:
        return {path: info.file_size for path, info in self._members.items()}

    def empty_folders(self) -> list[str]:
        filled = {
            parent.as_posix() for path in [*self._members, *self._folders] for parent in PurePosixPath(path).parents
        }
        return sorted(self._folders - filled)

    def read(self, path: str) -> bytes:
        return self.head(path, -1)

    def head(self, path: str, n_bytes: int) -> bytes:
        info = self._members[path]
        if stat.S_ISLNK(info.external_attr >> 16):
            raise OSError("a link inside a zip")
        if info.flag_bits & 0x1:
            raise OSError("encrypted in the zip")
        if info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
            raise OSError("compressed in an unusual way in the zip")  # zipfile bounds only deflate's output
        with self._archive.open(info) as stream:
            return stream.read(n_bytes)
