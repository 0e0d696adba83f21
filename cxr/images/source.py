"""Where the bytes of images come from: a folder, an archive, a folder in one, the Kaggle set, or a table of images.

A source lists its files and reads one at a time. Nothing is unpacked, moved or written, so a path in a hostile archive
cannot do harm. A path names one file: an archive in which two members have the same path is refused. Which files are
images, and of which class, `cxr.dataset.listing.layout` says; `litter` knows what systems leave among them.
"""

import os
import stat
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath, PurePosixPath
from typing import Protocol

from cxr.config import KAGGLE
from cxr.errors import DataError
from cxr.images.archives.tar_archive import TarArchive, is_tar
from cxr.images.archives.zip_archive import ZipArchive
from cxr.images.image_table import SUFFIX, ImageTable
from cxr.wording import printable

KAGGLE_DATASET = "paultimothymooney/chest-xray-pneumonia"
MAX_IMAGE_BYTES = 256 * 2**20
MACOS_FOLDER = "__macosx"
SYSTEM_FOLDERS = frozenset(
    {
        *("$recycle.bin", "recycler", "system volume information"),  # Windows
        *(".appledouble", ".documentrevisions-v100", ".fseventsd", ".spotlight-v100", ".temporaryitems", ".trashes"),
        *("lost+found", ".thumbnails"),  # Linux
        *("@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", ".@__thumb", "@__thumb"),  # NAS
        ".ipynb_checkpoints",
    }
)
"""Folders that systems make for themselves, in lower case. Some hold thumbnails or older copies of images."""
SETTINGS = frozenset({".ds_store", "thumbs.db", "ehthumbs.db", "desktop.ini"})
"""Files that systems write about a folder, in lower case."""


class Source(Protocol):
    """A tree of files, by relative POSIX path."""

    def sizes(self) -> Mapping[str, int]:
        """Return every file's path and size in bytes."""
        ...

    def empty_folders(self) -> list[str]:
        """Return the folders that contain neither a file nor a folder."""
        ...

    def read(self, path: str) -> bytes:
        """Return a file's bytes.

        Raises:
            OSError: the file cannot be read.
            zipfile.BadZipFile: the zip is damaged there.
        """
        ...

    def head(self, path: str, n_bytes: int) -> bytes:
        """Return a file's first bytes, `n_bytes` at most; it raises what `read` raises."""
        ...


def open_source(data: str) -> Source:
    """Return the source that `--data` names: a folder, an archive, a folder in one, kaggle, or a table of images.

    Raises:
        DamagedError: a table of images is none that cxr wrote, or was changed.
        DataError: the path does not exist, the archive is damaged or unsafe, or Kaggle cannot be reached. A tar is
            looked into when it is first asked for a file, and raises it then.
    """
    path = Path(download_kaggle() if data == KAGGLE else data).expanduser()
    if path.is_dir():
        return FolderSource(path)
    file = next((place for place in (path, *path.parents) if place.is_file()), None)
    if file is None:
        raise DataError(f"--data {data!r} does not exist: give a folder, a .zip, .tar or .tar.gz, or the word kaggle.")
    if file == path and file.suffix == SUFFIX:
        return ImageTable.at(file, open_source)
    archive = _open_archive(file, data)
    return archive if file == path else FolderInArchive(archive, path.relative_to(file).as_posix(), data)


def _open_archive(file: Path, data: str) -> Source:
    try:
        if is_tar(file):  # asked first: a tar that ends with a zip would pass for that zip
            return TarArchive(file)
    except OSError as error:
        raise DataError(f"--data {data!r} cannot be read ({error.strerror}): check its permissions.") from error
    if zipfile.is_zipfile(file):
        return ZipArchive(file)
    raise DataError(f"--data {data!r} is neither a folder nor a zip, tar or tar.gz archive (or it is damaged).")


def download_kaggle() -> str:
    """Download the Kaggle set with kagglehub, unless it was downloaded before; return its folder.

    Raises:
        DataError: it cannot be downloaded.
    """
    import kagglehub

    try:
        return kagglehub.dataset_download(KAGGLE_DATASET)
    except Exception as error:  # kagglehub raises its own errors and those of requests and urllib3
        raise DataError(
            f"--data kaggle could not download {KAGGLE_DATASET} ({type(error).__name__}): "
            f"fetch the archive by hand from https://www.kaggle.com/datasets/{KAGGLE_DATASET} "
            "and give it with --data archive.zip."
        ) from error


class FolderSource:
    """A folder on disk; links are followed, because the folder is the user's own, but never in a circle."""

    def __init__(self, root: Path) -> None:
        self._paths: dict[str, Path] = {}
        self._empty: list[str] = []
        for folder, names, is_leaf in _walk(root):
            self._paths |= {printable((folder / name).relative_to(root)): folder / name for name in names}
            if is_leaf and not names:
                self._empty.append(printable(folder.relative_to(root)))

    def sizes(self) -> Mapping[str, int]:
        return {name: _size(name, path) for name, path in self._paths.items()}

    def empty_folders(self) -> list[str]:
        return self._empty

    def read(self, path: str) -> bytes:
        data = self.head(path, MAX_IMAGE_BYTES + 1)
        if len(data) > MAX_IMAGE_BYTES:
            raise OSError(f"it has grown to more than {MAX_IMAGE_BYTES:,} bytes")
        return data

    def head(self, path: str, n_bytes: int) -> bytes:
        file = self._paths[path]
        if not stat.S_ISREG(file.stat().st_mode):
            raise OSError("not a regular file")
        with file.open("rb") as stream:
            return stream.read(n_bytes)


def _size(name: str, file: Path) -> int:
    """Return a file's size in bytes; 0 for a broken link, which is refused when it is read.

    Raises:
        DataError: its folder may be listed and not entered.
    """
    try:
        return file.stat().st_size
    except PermissionError as error:
        if _is_expendable(PurePosixPath(name)):
            return 0
        raise DataError(
            f"the files in {str(file.parent)!r} cannot be looked at ({error.strerror}): give yourself permission to "
            "enter the folder (chmod u+x)."
        ) from error
    except OSError:
        return 0


def _walk(root: Path) -> Iterable[tuple[Path, list[str], bool]]:
    """Yield each folder, the names of its files, and whether it contains no folder.

    A hidden or system folder that may not be listed, such as lost+found, is yielded as if it were a file.
    """
    locked: list[Path] = []

    def stop(error: OSError) -> None:
        path = Path(error.filename).relative_to(root)
        if not _is_expendable(path):
            raise DataError(
                f"the folder {error.filename!r} cannot be listed ({error.strerror}): check its permissions."
            )
        locked.append(Path(error.filename))

    seen: set[str] = set()
    for folder, subfolders, names in os.walk(root, onerror=stop, followlinks=True):
        seen.add(os.path.realpath(folder))
        subfolders[:] = sorted(name for name in subfolders if os.path.realpath(Path(folder, name)) not in seen)
        yield Path(folder), sorted(names), not subfolders
    for folder in locked:
        yield folder.parent, [folder.name], False


class FolderInArchive:
    """A folder in an archive, as if it were all of it: one of several data sets that were packed together."""

    def __init__(self, archive: Source, folder: str, data: str) -> None:
        self._archive = archive
        self._prefix = f"{folder}/"
        if not any(path.startswith(self._prefix) for path in archive.sizes()):
            raise DataError(f"--data {data!r}: the archive has no folder {folder!r} with files.")

    def sizes(self) -> Mapping[str, int]:
        return {
            path.removeprefix(self._prefix): n_bytes
            for path, n_bytes in self._archive.sizes().items()
            if path.startswith(self._prefix)
        }

    def empty_folders(self) -> list[str]:
        folders = self._archive.empty_folders()
        return [folder.removeprefix(self._prefix) for folder in folders if folder.startswith(self._prefix)]

    def read(self, path: str) -> bytes:
        return self._archive.read(self._prefix + path)

    def head(self, path: str, n_bytes: int) -> bytes:
        return self._archive.head(self._prefix + path, n_bytes)


def litter(path: PurePath) -> str | None:
    """Return the kind of a file that a system and not a person has put there; None for any other file."""
    parts = [part.casefold() for part in path.parts]
    if MACOS_FOLDER in parts or path.name.startswith("._"):
        return "macOS copy"
    if path.name.casefold() in SETTINGS:
        return "folder settings"
    is_system = any(part in SYSTEM_FOLDERS or part.startswith(".trash-") for part in parts)
    return "system folder" if is_system else None


def is_hidden(path: PurePath) -> bool:
    """Return whether a file or a folder above it is hidden: its name begins with a dot."""
    return any(part.startswith(".") for part in path.parts)


def _is_expendable(path: PurePath) -> bool:
    """Return whether a file or folder is left aside whatever it holds."""
    return is_hidden(path) or litter(path) is not None
