"""Which folder of an image's path is its class: the layouts ROOT/[split/]CLASS/image and ROOT/CLASS/split/image.

Folders below the class that only arrange its images are passed over: `images`, beside which lie masks, and the folders
of a patient and a study in CheXpert and MIMIC-CXR.
"""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

TRAIN, VAL, TEST = "train", "val", "test"
SPLITS: dict[str, str] = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("val", "valid", "validate", "validation", "dev"), VAL),
    **dict.fromkeys(("test", "testing"), TEST),
}
"""Names of folders that are a split, in lower case, and the split."""
IMAGE_FOLDER = re.compile(r"(?:images?|imgs?)", re.IGNORECASE)
MASK_FOLDER = re.compile(r"(?:left|right|manual|lung)?[-_ ]?(?:masks?|annotations?)", re.IGNORECASE)
WORD = re.compile(r"(?:images?|imgs?|files?|masks?|annotations?)[-_ ]?\d*", re.IGNORECASE)
"""What folders of images are called that is not a class."""
STUDY = re.compile(r"(?:^|/)(?:p\d\d/)?(?:p\d{8}/s\d{8}|patient\d{5}/study\d+)$")
"""The folders of a study in MIMIC-CXR and in CheXpert."""

Folders = tuple[str, ...]


@dataclass(frozen=True)
class Place:
    """What the folders of a path say."""

    root: Folders
    """The folders above split and class."""
    class_folder: str | None
    """None for an image that lies in no folder."""
    split: str | None


def find_places(paths: Iterable[str]) -> dict[str, Place]:
    """Return what the folders of each path say."""
    folders = {path: _folders(path) for path in paths}
    above_splits = _classes_above_splits(set(folders.values()))
    return {path: _place(parts, above_splits) for path, parts in folders.items()}


def split_of(folder: str) -> str | None:
    """Return the split that a folder's name stands for: train, val or test; None for any other name."""
    return SPLITS.get(folder.lower())


def is_in_mask_folder(path: PurePosixPath) -> bool:
    """Return whether a folder above a file is named as one of masks or annotations, which are drawn and not taken."""
    return any(MASK_FOLDER.fullmatch(folder) for folder in path.parts[:-1])


def why_no_class(folder: str) -> str | None:
    """Return what a folder's name is that is hardly a class; None for any other name."""
    if split_of(folder):
        return "the name of a split"
    if re.fullmatch(r"\d+", folder):
        return "a number"
    return "a word for files" if WORD.fullmatch(folder) else None


def _folders(path: str) -> Folders:
    """Return the folders above an image, without those below its class that only arrange images."""
    parts = PurePosixPath(STUDY.sub("", path.rpartition("/")[0])).parts
    is_arranged = len(parts) > 1 and IMAGE_FOLDER.fullmatch(parts[-1]) and not split_of(parts[-2])
    return parts[:-1] if is_arranged else parts


def _place(folders: Folders, above_splits: set[Folders]) -> Place:
    if not folders:
        return Place((), None, None)
    *above, last = folders
    if tuple(above) in above_splits:
        return Place(tuple(above[:-1]), above[-1], split_of(last))
    split = split_of(above[-1]) if above else None
    return Place(tuple(above[:-1] if split else above), last, split)


def _classes_above_splits(folders: set[Folders]) -> set[Folders]:
    """Return the folders that are classes with splits below: nothing else is below, and there is another such class.

    A folder that stands alone is the data set's own, and its images have no class.
    """
    holding: defaultdict[Folders, set[str]] = defaultdict(set)
    below: defaultdict[Folders, set[str]] = defaultdict(set)
    for parts in folders:
        holding[parts[:-1]].update(parts[-1:])
        for depth in range(len(parts)):
            below[parts[:depth]].add(parts[depth])
    return {
        above
        for above, names in holding.items()
        if above and not split_of(above[-1]) and all(map(split_of, names)) and len(below[above[:-1]]) > 1
    }
