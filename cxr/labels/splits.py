"""The split of each image, from a column or from lists of files."""

import csv
from collections.abc import Sequence

from cxr.errors import ConfigError, DataError
from cxr.images.source import Source
from cxr.labels.matching import match_files
from cxr.labels.tables import find_files

SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validate", "validation", "dev"),
    "test": ("test", "testing"),
}
"""The words that collections use for the splits."""
SPLIT_OF_WORD = {word: split for split, words in SPLITS.items() for word in words}


def split_name(value: str) -> str:
    """Return train, val or test for the words that collections use; any other name as it is."""
    return SPLIT_OF_WORD.get(value.strip().casefold(), value)


def listed_splits(lists: Sequence[str], source: Source, files: Sequence[str], *, allow: bool) -> dict[str, str]:
    """Return the split of each file that stands in a list.

    Args:
        lists: SPLIT=FILE; a list has a file a line, in its first column if there are several.
        source: the data, in which lists may lie too.
        files: paths of the images in the data.
        allow: whether a list may name files that are not there.

    Raises:
        ConfigError: there is no such list.
        DataError: a list names no file, or a file that is in another list.
    """
    split_of: dict[str, str] = {}
    for text in lists:
        split, _, name = text.partition("=")
        for file in _listed(name, source, files, allow=allow):
            if split_of.setdefault(file, split_name(split)) != split_name(split):
                raise DataError(
                    f"{file!r} is in the lists of two splits, {split_of[file]!r} and {split!r}: correct them."
                )
    return split_of


def _listed(name: str, source: Source, files: Sequence[str], *, allow: bool) -> list[str]:
    (found,) = find_files(name, source, "--split-list")[:1]
    try:
        lines = found[1].decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ConfigError(f"--split-list {name!r} is no text in UTF-8: give a list with one file a line.") from error
    values = list(dict.fromkeys(row[0].strip() for row in csv.reader(lines) if row and row[0].strip()))
    matched = match_files(values, files)
    missing = [value for value in values if value not in matched]
    if not matched or (missing and not allow):
        raise DataError(
            f"{len(missing):,} of {len(values):,} lines of {name!r} name no image of the data, such as "
            f"{next(iter(missing), '')!r}: give --missing-films allow, or correct the list."
        )
    return list(matched.values())
