"""Which files of a data set are images, and of which class.

The class is a folder, as `cxr.dataset.listing.class_folders` finds it. Whatever else lies in a data set is left aside,
and each such file is named with its kind: in a hidden folder or one that a system has made, in a format that is not
read, a mask, the nested second copy inside the real Kaggle archive.
"""

import logging
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

import pandas as pd

from cxr.dataset.listing.class_folders import Folders, Place, find_places, split_of, why_no_class
from cxr.dataset.listing.file_kinds import NESTED, NOT_NAMED, OTHER_FORMAT, kind_of
from cxr.errors import ConfigError, DataError
from cxr.images.source import Source, is_hidden, litter

log = logging.getLogger(__name__)

LAYOUT = "Expected ROOT/[split/]CLASS/image.(jpeg|jpg|png|dcm), with split one of train, val, test."
MAX_NAMED = 3


@dataclass(frozen=True)
class SourceImage:
    """A file at a place where an image is expected, not read yet."""

    path: str
    """Relative to ROOT, POSIX; the same for a folder and for an archive of it."""
    key: str
    """Its path in the source."""
    class_folder: str
    split: str | None
    n_bytes: int
    patient_id: str | None = None
    """From a table of labels, as a keyed hash; None where none names the patient."""


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


def list_images(source: Source, class_folder: Collection[str] = ()) -> Listing:
    """Return the images of a source, and what else is in it.

    Args:
        source: the open data set.
        class_folder: names of the folders that are classes; images elsewhere are left aside. Empty for all folders.

    Raises:
        ConfigError: a class folder has no image.
        DataError: there is no image, an image is in no class folder, or images are under several roots.
    """
    sizes = source.sizes()
    kinds = kinds_of(source)
    places = find_places(_require_images(kinds))
    if class_folder:
        _require_folders(class_folder, places)
        kinds |= {key: NOT_NAMED for key, place in places.items() if place.class_folder not in class_folder}
        places = {key: place for key, place in places.items() if kinds[key] is None}
    root = _root(places, sizes)
    kinds |= {key: NESTED for key, place in places.items() if place.root != root}
    images = [_image(key, place, sizes[key]) for key, place in places.items() if place.root == root]
    left_aside = [LeftAside(key, kind, sizes[key]) for key, kind in sorted(kinds.items()) if kind is not None]
    empty = _empty_class_folders(source.empty_folders(), root, class_folder)
    return Listing(sorted(images, key=lambda image: image.path), left_aside, empty)


def kinds_of(source: Source) -> dict[str, str | None]:
    """Return why each file is left aside; None for an image."""
    return {key: kind_of(key, source) for key in source.sizes()}


def _require_images(kinds: Mapping[str, str | None]) -> list[str]:
    """Return the files that are images, ordered by path."""
    images = sorted(key for key, kind in kinds.items() if kind is None)
    if not images:
        aside = ", ".join(f"{n} × {kind}" for kind, n in Counter(kinds.values()).items())
        raise DataError(f"no image found among {len(kinds)} files{': ' * bool(aside)}{aside}. {LAYOUT}")
    return images


def _require_folders(class_folder: Collection[str], places: Mapping[str, Place]) -> None:
    found = sorted({place.class_folder for place in places.values() if place.class_folder is not None})
    for name in class_folder:
        if name not in found:
            raise ConfigError(
                f"--class-folder {name!r} names no folder with images; those are {', '.join(map(repr, found))}."
            )


def _root(places: Mapping[str, Place], sizes: Mapping[str, int]) -> Folders:
    """Return the folders above split and class, which all images share but those of a nested copy."""
    for key, place in places.items():
        if place.class_folder is None:
            raise DataError(f"every image needs a class folder, but {key!r} lies in none. {LAYOUT}")
    root = min({place.root for place in places.values()}, key=lambda parts: (len(parts), parts))
    strays = {key: place for key, place in places.items() if place.root != root}
    if not all(_is_nested_copy(key, place, root, sizes) for key, place in strays.items()):
        raise DataError(_describe_roots(places))
    return root


def _is_nested_copy(key: str, place: Place, root: Folders, sizes: Mapping[str, int]) -> bool:
    """Return whether `root` has a file of the same relative path and size as an image further down."""
    below = PurePosixPath(key).parts[len(place.root) :]
    return sizes.get("/".join((*root, *below))) == sizes[key]


def _describe_roots(places: Mapping[str, Place]) -> str:
    """Return the sentence on images at several depths; it names the folders that differ from most."""
    roots = Counter(place.root for place in places.values())
    usual = roots.most_common(1)[0][0]
    strays = Counter(str(PurePosixPath(key).parent) for key, place in places.items() if place.root != usual)
    named = ", ".join(f"{folder!r} ({n})" for folder, n in strays.most_common(MAX_NAMED))
    n_more = len(strays) - MAX_NAMED
    more = f" and {n_more} more folders" if n_more > 0 else ""
    return (
        f"images lie under {len(roots)} roots: most have their class folders in {'/'.join(usual) or '.'!r}, but these "
        f"folders do not fit: {named}{more}. {_way_out(roots)} {LAYOUT}"
    )


def _way_out(roots: Counter[Folders]) -> str:
    """Return how to get images under one root: the folders that are data sets by themselves, or another order."""
    named = " or ".join(f"--data …/{'/'.join(root)} ({n} images)" for root, n in roots.most_common(MAX_NAMED) if root)
    if () in roots:
        alone = f", or give one root alone: {named}" if named else ""
        return f"Move them out of the data set, or into a class folder{alone}."
    return f"Give the folder of one root alone, in an archive too: {named}."


def _image(key: str, place: Place, n_bytes: int) -> SourceImage:
    path = "/".join(PurePosixPath(key).parts[len(place.root) :])
    return SourceImage(path, key, class_folder=place.class_folder or "", split=place.split, n_bytes=n_bytes)


def _empty_class_folders(folders: Iterable[str], root: Folders, class_folder: Collection[str]) -> list[str]:
    """Return the folders at ROOT/[split/]CLASS, relative to ROOT."""
    below_root = [
        PurePosixPath(*PurePosixPath(folder).parts[len(root) :])
        for folder in sorted(folders)
        if PurePosixPath(folder).parts[: len(root)] == root
    ]
    return [
        path.as_posix()
        for path in below_root
        if _is_class_folder(path) and (not class_folder or path.name in class_folder)
    ]


def _is_class_folder(below_root: PurePosixPath) -> bool:
    parts = below_root.parts
    is_class = len(parts) == 1 or (len(parts) == 2 and split_of(parts[0]) is not None)
    is_named_so = is_class and not split_of(parts[-1]) and why_no_class(parts[-1]) != "a word for files"
    return is_named_so and not litter(below_root) and not is_hidden(below_root)


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


def log_left_aside(listing: Listing) -> None:
    """Log a line per kind of files left aside: a warning for images, which somebody may miss."""
    for line in name_left_aside(left_aside_table(listing.left_aside)):
        log.log(logging.WARNING if OTHER_FORMAT in line else logging.INFO, "left aside: %s", line)
