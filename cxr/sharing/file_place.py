"""Packages in a folder, such as a share or a disk that is carried around, or in a bucket.

Files are written one after the other, each as a whole, and `SHA256SUMS` last. Two pushes of one model wait for one
another: under a lock in a folder, under a lease in a bucket.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cxr.errors import ConfigError
from cxr.storage import files
from cxr.storage.model_folder import ModelFolder, PackageFolder

PATIENCE_S = 60


@dataclass(frozen=True)
class FilePlace:
    """A folder or a bucket with packages, laid out as `models/` is."""

    address: str
    root: Path

    @classmethod
    def at(cls, address: str, option: str) -> "FilePlace":
        """Return the place at a path or a URL.

        Raises:
            ConfigError: it is a file; or the bucket cannot be reached.
        """
        root = files.located(Path(address))
        if root.is_file():
            raise ConfigError(f"{option} {address!r} is a file: give a folder that holds packages, or will.")
        return cls(address, root)

    def versions(self, name: str) -> list[str]:
        """Return the versions of a model that are there, oldest first."""
        return ModelFolder(self.root / name).versions()

    def sizes(self, name: str, version: str) -> dict[str, int | None]:
        """Return the size in bytes of each file of a version, by its name; None for what is no plain file."""
        folder = self.root / name / version
        return {path.name: _size(path) for path in folder.iterdir()} if folder.is_dir() else {}

    def fetch(self, name: str, version: str, file: str, folder: Path) -> None:
        """Copy a file to `folder`/NAME/VERSION/ on this machine."""
        _copy(self.root / name / version / file, folder / name / version / file)

    @contextmanager
    def held(self, name: str, version: str) -> Iterator[None]:
        """Keep other pushes of the model out of the place inside the block; what a killed one was writing is removed.

        Raises:
            RunError: another push of the model did not end within PATIENCE_S.
        """
        with files.locked(ModelFolder(self.root / name).lock, f"{name} in {self.address}", patience_s=PATIENCE_S):
            files.sweep(self.root / name / version)
            yield

    def write(self, package: PackageFolder, name: str, leftovers: list[str]) -> Iterator[str]:
        """Write a version's files, `SHA256SUMS` last; yield each one's name when it is written."""
        folder = self.root / name / package.version
        for leftover in leftovers:
            (folder / leftover).unlink()
        for path in sorted(package.path.iterdir(), key=lambda path: (path == package.checksums, path.name)):
            _copy(path, folder / path.name)
            yield path.name


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() and not path.is_symlink() else None


def _copy(source: Path, target: Path) -> None:
    with files.local_copy(source) as copy, files.replacing(target) as temporary:
        shutil.copyfile(copy, temporary)
