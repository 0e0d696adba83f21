"""Where the bytes of images come from: a folder, a zip, or the Kaggle set.

A source lists its files and reads one at a time. Nothing is unpacked, moved or written, so a path in a hostile archive
cannot do harm. Only files at ROOT/[split/]CLASS/image.(jpeg|jpg|png|dcm) are images. Other files that archives are
known to contain (Finder and Windows files, the nested second copy inside the real Kaggle archive) are recognised and
counted.
"""

import os
import re
import stat
import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import Protocol

from cxr.errors import DataError

KAGGLE = "kaggle"
KAGGLE_DATASET = "paultimothymooney/chest-xray-pneumonia"
LAYOUT = "Expected ROOT/[split/]CLASS/image.(jpeg|jpg|png|dcm), with split one of train, val, test."
SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
IMAGE_SUFFIXES = {".jpeg", ".jpg", ".png", ".dcm"}
MAX_IMAGE_BYTES = 256 * 2**20
MAX_ZIP_RATIO = 100
"""How many times its own size a zip may unpack to; X-ray JPEGs and PNGs hardly shrink in a zip."""
MAX_ZIP_FREE_BYTES = 256 * 2**20
"""A zip that unpacks to no more than this is never refused."""


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


@dataclass(frozen=True)
class SourceImage:
    """A file at a place where an image is expected, not read yet."""

    path: str
    """Relative to ROOT, POSIX; the same for a folder and for a zip of it."""
    key: str
    """Its path in the source."""
    class_folder: str
    split: str | None
    n_bytes: int


@dataclass(frozen=True)
class Listing:
    """The contents of a source."""

    images: list[SourceImage]
    """Ordered by path."""
    left_aside: dict[str, int]
    """Number of files that are no images, by kind."""
    empty_folders: list[str]
    """Class folders without an image, relative to ROOT."""


def open_source(data: str) -> Source:
    """Return the source that `--data` names: a folder, a .zip, or the word kaggle.

    Raises:
        DataError: the path does not exist, the zip is damaged or unsafe, or Kaggle cannot be reached.
    """
    path = Path(download_kaggle() if data == KAGGLE else data).expanduser()
    if path.is_dir():
        return FolderSource(path)
    if path.is_file() and zipfile.is_zipfile(path):
        return ZipSource(path)
    if path.exists():
        raise DataError(f"--data {data!r} is neither a folder nor a zip archive (or the zip is damaged).")
    raise DataError(f"--data {data!r} does not exist: give a folder, a .zip, or the word kaggle.")


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
        return {name: _size(path) for name, path in self._paths.items()}

    def empty_folders(self) -> list[str]:
        return self._empty

    def read(self, path: str) -> bytes:
        file = self._paths[path]
        if not stat.S_ISREG(file.stat().st_mode):
            raise OSError("not a regular file")
        with file.open("rb") as stream:
            data = stream.read(MAX_IMAGE_BYTES + 1)
        if len(data) > MAX_IMAGE_BYTES:
            raise OSError(f"it has grown to more than {MAX_IMAGE_BYTES:,} bytes")
        return data


def _size(file: Path) -> int:
    """Return a file's size in bytes; 0 for a broken link, which is refused when it is read.

    Raises:
        DataError: its folder may be listed and not entered.
    """
    try:
        return file.stat().st_size
    except PermissionError as error:
        raise DataError(
            f"the files in {str(file.parent)!r} cannot be looked at ({error.strerror}): give yourself permission to "
            "enter the folder (chmod u+x)."
        ) from error
    except OSError:
        return 0


def _walk(root: Path) -> Iterable[tuple[Path, list[str], bool]]:
    """Yield each folder, the names of its files, and whether it contains no folder."""

    def stop(error: OSError) -> None:
        raise DataError(f"the folder {error.filename!r} cannot be listed ({error.strerror}): check its permissions.")

    seen: set[str] = set()
    for folder, subfolders, names in os.walk(root, onerror=stop, followlinks=True):
        seen.add(os.path.realpath(folder))
        subfolders[:] = sorted(name for name in subfolders if os.path.realpath(Path(folder, name)) not in seen)
        yield Path(folder), sorted(names), not subfolders


def printable(path: PurePath) -> str:
    """Return a path as valid Unicode: bytes that are no UTF-8 become escapes such as \\xe9, and \\ becomes \\\\.

    Different paths give different strings.
    """
    doubled = path.as_posix().replace("\\", "\\\\")
    return doubled.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


class ZipSource:
    """A zip archive, read in place."""

    def __init__(self, path: Path) -> None:
        try:
            self._archive = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError, NotImplementedError, UnicodeDecodeError) as error:
            raise DataError(f"the zip {str(path)!r} cannot be opened: {error}.") from error
        self._members = {info.filename: info for info in self._archive.infolist() if not info.is_dir()}
        for name in self._members:
            if name.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", name) or re.match(r"[A-Za-z]:", name):
                raise DataError(f"the zip {str(path)!r} is unsafe: member {name!r} leads out of it.")
        unpacked = sum(info.file_size for info in self._archive.infolist())
        if unpacked > max(MAX_ZIP_FREE_BYTES, MAX_ZIP_RATIO * path.stat().st_size):
            raise DataError(
                f"the zip {str(path)!r} is unsafe: it unpacks to {unpacked:,} bytes, "
                f"more than {MAX_ZIP_RATIO} times its own size."
            )

    def sizes(self) -> Mapping[str, int]:
        return {name: info.file_size for name, info in self._members.items()}

    def empty_folders(self) -> list[str]:
        folders = {info.filename.rstrip("/") for info in self._archive.infolist() if info.is_dir()}
        filled = {parent.as_posix() for name in [*self._members, *folders] for parent in PurePosixPath(name).parents}
        return sorted(folders - filled)

    def read(self, path: str) -> bytes:
        info = self._members[path]
        if stat.S_ISLNK(info.external_attr >> 16):
            raise OSError("a link inside a zip")
        if info.flag_bits & 0x1:
            raise OSError("encrypted in the zip")
        if info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
            raise OSError("compressed in an unusual way in the zip")  # zipfile bounds only deflate's output
        return self._archive.read(info)


def list_images(source: Source) -> Listing:
    """Return the images of a source, and what else is in it.

    Raises:
        DataError: there is no image, an image is in no class folder, or images are under several roots.
    """
    sizes = source.sizes()
    left_aside: Counter[str] = Counter()
    candidates: list[str] = []
    for key in sizes:
        kind = _kind(key)
        if kind == "image":
            candidates.append(key)
        else:
            left_aside[kind] += 1
    if not candidates:
        raise DataError(f"no image found among {len(sizes)} files. {LAYOUT}")
    roots = Counter(_root(key) for key in candidates)
    root = min(roots, key=lambda parts: (len(parts), parts))
    images: list[SourceImage] = []
    for key in sorted(candidates):
        if _root(key) == root:
            images.append(_image(key, root, sizes[key]))
        elif _is_nested_copy(key, root, sizes):
            left_aside["nested copy"] += 1
        else:
            others = sorted("/".join(parts) or "." for parts in roots)
            raise DataError(f"images lie under {len(others)} roots, such as {others[0]!r} and {others[1]!r}. {LAYOUT}")
    empty = [folder for folder in source.empty_folders() if _is_class_folder(folder, root)]
    below_root = [PurePosixPath(folder).relative_to(PurePosixPath(*root)).as_posix() for folder in sorted(empty)]
    return Listing(sorted(images, key=lambda image: image.path), dict(left_aside), below_root)


def _is_class_folder(folder: str, root: tuple[str, ...]) -> bool:
    """Return whether a folder is at ROOT/[split/]CLASS."""
    parts = PurePosixPath(folder).parts
    below = parts[len(root) :]
    hidden = any(part.startswith((".", "__")) for part in below)
    is_class = len(below) == 1 and below[0].lower() not in SPLITS
    is_split_class = len(below) == 2 and below[0].lower() in SPLITS
    return parts[: len(root)] == root and (is_class or is_split_class) and not hidden


def _kind(key: str) -> str:
    path = PurePosixPath(key)
    return litter(path) or ("image" if path.suffix.lower() in IMAGE_SUFFIXES else "other file")


def litter(path: PurePath) -> str | None:
    """Return the kind of a file that Finder or Windows left; None for any other file."""
    if "__MACOSX" in path.parts or path.name.startswith("._"):
        return "macOS copy"
    return "folder settings" if path.name in {".DS_Store", "Thumbs.db", "desktop.ini"} else None


def _root(key: str) -> tuple[str, ...]:
    """Return the folders above [split/]CLASS/image."""
    folders = PurePosixPath(key).parts[:-1]
    if not folders:
        raise DataError(f"every image needs a class folder, but {key!r} lies in none. {LAYOUT}")
    above_class = folders[:-1]
    return above_class[:-1] if above_class and above_class[-1].lower() in SPLITS else above_class


def _image(key: str, root: tuple[str, ...], n_bytes: int) -> SourceImage:
    parts = PurePosixPath(key).parts[len(root) :]
    split = SPLITS[parts[0].lower()] if len(parts) == 3 else None
    return SourceImage("/".join(parts), key, class_folder=parts[-2], split=split, n_bytes=n_bytes)


def _is_nested_copy(key: str, root: tuple[str, ...], sizes: Mapping[str, int]) -> bool:
    """Return whether `root` has a file of the same relative path and size as an image further down."""
    below = PurePosixPath(key).parts[len(_root(key)) :]
    return sizes.get("/".join((*root, *below))) == sizes[key]
