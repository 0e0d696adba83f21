"""Which files of a data set are images, and of which class: the layout ROOT/[split/]CLASS/image.

Whatever else lies in a data set is left aside, and each such file is named with its kind: in a hidden folder or one
that a system has made, in a format that is not read, the nested second copy inside the real Kaggle archive. A file
whose name has no suffix is an image if its first bytes are those of DICOM.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import pandas as pd

from cxr.errors import DataError
from cxr.images.dicom.file import is_dicom
from cxr.images.source import Source, is_hidden, litter

LAYOUT = "Expected ROOT/[split/]CLASS/image.(jpeg|jpg|png|dcm), with split one of train, val, test."
SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
PICTURE_SUFFIXES = (".jpeg", ".jpg", ".jpe", ".jfif", ".png")
DICOM_SUFFIXES = (".dcm", ".dicom")
OTHER_FORMATS = (".bmp", ".gif", ".heic", ".j2k", ".jp2", ".mha", ".nii", ".nii.gz", ".nrrd", ".tif", ".tiff", ".webp")
HEAD_BYTES = 132
"""DICOM's preamble and its prefix."""
NESTED, OTHER_FORMAT = "nested copy", "image in another format"
MADE_BY_SYSTEMS = frozenset({"macOS copy", "folder settings", "system folder", "DICOM directory", NESTED})
"""Kinds of files that nobody misses among the images."""
MAX_NAMED = 3


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
class LeftAside:
    """A file that is not read."""

    path: str
    """Its path in the source."""
    kind: str
    n_bytes: int


@dataclass(frozen=True)
class Listing:
    """The contents of a source."""

    images: list[SourceImage]
    """Ordered by path."""
    left_aside: list[LeftAside]
    """Files that are not read, ordered by path."""
    empty_folders: list[str]
    """Class folders without an image, relative to ROOT."""


def list_images(source: Source) -> Listing:
    """Return the images of a source, and what else is in it.

    Raises:
        DataError: there is no image, an image is in no class folder, or images are under several roots.
    """
    sizes = source.sizes()
    kinds = {key: _kind(key, source) for key in sizes}
    candidates = sorted(key for key, kind in kinds.items() if kind is None)
    if not candidates:
        aside = ", ".join(f"{n} × {kind}" for kind, n in Counter(kinds.values()).items())
        raise DataError(f"no image found among {len(sizes)} files{': ' * bool(aside)}{aside}. {LAYOUT}")
    root = min({_root(key) for key in candidates}, key=lambda parts: (len(parts), parts))
    below = [key for key in candidates if _root(key) == root]
    strays = [key for key in candidates if _root(key) != root]
    if not all(_is_nested_copy(key, root, sizes) for key in strays):
        raise DataError(_describe_roots(candidates))
    images = [_image(key, root, sizes[key]) for key in below]
    kinds |= dict.fromkeys(strays, NESTED)
    left_aside = [LeftAside(key, kind, sizes[key]) for key, kind in sorted(kinds.items()) if kind is not None]
    return Listing(
        sorted(images, key=lambda image: image.path), left_aside, _empty_class_folders(source.empty_folders(), root)
    )


def _kind(key: str, source: Source) -> str | None:
    """Return why a file is left aside; None for an image."""
    path = PurePosixPath(key)
    if kind := litter(path):
        return kind
    if is_hidden(path):
        return "hidden folder" if is_hidden(path.parent) else "hidden file"
    name = path.name.lower()
    if name.endswith((*PICTURE_SUFFIXES, *DICOM_SUFFIXES)):
        return None
    if name == "dicomdir":
        return "DICOM directory"
    if name.endswith(OTHER_FORMATS):
        return OTHER_FORMAT
    return None if _has_no_suffix(path) and _begins_as_dicom(key, source) else "other file"


def _has_no_suffix(path: PurePosixPath) -> bool:
    """Return whether a name has no suffix, or ends in a number as the UIDs do that archives name DICOM files by."""
    return not path.suffix or path.suffix[1:].isdigit()


def _begins_as_dicom(key: str, source: Source) -> bool:
    try:
        return is_dicom(source.head(key, HEAD_BYTES))
    except Exception:  # OSError; from a damaged zip also BadZipFile, zlib.error, EOFError, struct.error, …
        return False


def _root(key: str) -> tuple[str, ...]:
    """Return the folders above [split/]CLASS/image."""
    folders = PurePosixPath(key).parts[:-1]
    if not folders:
        raise DataError(f"every image needs a class folder, but {key!r} lies in none. {LAYOUT}")
    above_class = folders[:-1]
    return above_class[:-1] if above_class and above_class[-1].lower() in SPLITS else above_class


def _describe_roots(candidates: Sequence[str]) -> str:
    """Return the sentence on images at several depths; it names the folders that differ from most."""
    usual = Counter(map(_root, candidates)).most_common(1)[0][0]
    strays = Counter(str(PurePosixPath(key).parent) for key in candidates if _root(key) != usual)
    named = ", ".join(f"{folder!r} ({n})" for folder, n in strays.most_common(MAX_NAMED))
    n_more = len(strays) - MAX_NAMED
    more = f" and {n_more} more folders" if n_more > 0 else ""
    return (
        f"images lie under {len(set(map(_root, candidates)))} roots: most have their class folders in "
        f"{'/'.join(usual) or '.'!r}, but these folders do not fit: {named}{more}. "
        f"Move them out of the data set, or into a class folder. {LAYOUT}"
    )


def _image(key: str, root: tuple[str, ...], n_bytes: int) -> SourceImage:
    parts = PurePosixPath(key).parts[len(root) :]
    split = SPLITS[parts[0].lower()] if len(parts) == 3 else None
    return SourceImage("/".join(parts), key, class_folder=parts[-2], split=split, n_bytes=n_bytes)


def _is_nested_copy(key: str, root: tuple[str, ...], sizes: Mapping[str, int]) -> bool:
    """Return whether `root` has a file of the same relative path and size as an image further down."""
    below = PurePosixPath(key).parts[len(_root(key)) :]
    return sizes.get("/".join((*root, *below))) == sizes[key]


def _empty_class_folders(folders: Iterable[str], root: tuple[str, ...]) -> list[str]:
    """Return the folders at ROOT/[split/]CLASS, relative to ROOT."""
    below_root = [
        PurePosixPath(*PurePosixPath(folder).parts[len(root) :])
        for folder in sorted(folders)
        if PurePosixPath(folder).parts[: len(root)] == root
    ]
    return [path.as_posix() for path in below_root if _is_class_folder(path)]


def _is_class_folder(below_root: PurePosixPath) -> bool:
    parts = below_root.parts
    is_class = len(parts) == 1 and parts[0].lower() not in SPLITS
    is_split_class = len(parts) == 2 and parts[0].lower() in SPLITS
    return (is_class or is_split_class) and not litter(below_root) and not is_hidden(below_root)


def count_kinds(left_aside: Iterable[LeftAside]) -> dict[str, int]:
    """Return the number of files left aside, by kind."""
    return dict(Counter(file.kind for file in left_aside))


def left_aside_table(left_aside: Iterable[LeftAside]) -> pd.DataFrame:
    """Return one row per file left aside: path, kind, n_bytes."""
    rows = [(file.path, file.kind, file.n_bytes) for file in left_aside]
    types = {"path": "str", "kind": "str", "n_bytes": "int64"}
    return pd.DataFrame(rows, columns=list(types)).astype(types)


def name_left_aside(table: pd.DataFrame) -> list[str]:
    """Return a line per kind of files left aside: how many, and the first of them."""
    return [
        f"{len(files)} × {kind}: {', '.join(map(repr, files['path'].head(MAX_NAMED)))}"
        + (", …" if len(files) > MAX_NAMED else "")
        for kind, files in table.groupby("kind")
    ]
