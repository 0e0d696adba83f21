"""Which file a value of the path column names, inside the data only.

Rules are tried in this order: the exact path; the path without leading folders, dropped one by one, where the file may
lie under further folders itself; the file's name; its name without suffix; the SOPInstanceUID of a DICOM file. One rule
serves for a whole column, the one under which most rows have a file of their own: a row whose file is missing must not
fall back to a weaker rule and take another patient's file of the same name.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

from cxr.errors import DataError

SUFFIX = re.compile(r"\.(jpe?g|jpe|jfif|png|dcm|dicom|tiff?|bmp|gif|webp)$", re.IGNORECASE)
UID = re.compile(r"[0-9]+(\.[0-9]+){3,}")
Reduce = Callable[[str], str | None]
ReadUid = Callable[[str], str | None]
"""Returns the SOPInstanceUID of a file, or None."""
Match = Callable[[Sequence[str], Sequence[str], ReadUid], dict[str, str]]
"""Returns the file that each value of the path column names, as `match_files` does."""


def without_suffix(name: str) -> str:
    """Return a file's name without the suffix of an image format."""
    return SUFFIX.sub("", name)


def stems(files: Iterable[str]) -> set[str]:
    """Return the files' names without folders and suffixes."""
    return {_stem(file) for file in files}


def match_files(values: Sequence[str], files: Sequence[str], read_uid: ReadUid | None = None) -> dict[str, str]:
    """Return the file that each value names; values that name none are left out.

    Args:
        values: of the path column, all different.
        files: paths of the images in the data.
        read_uid: it is asked if no value names a file otherwise.

    Raises:
        DataError: a value names two files, or two values name one.
    """
    paths = {value: normal(value) for value in values}
    best: dict[str, list[str]] = {}
    most = (0, 0)
    for of_value, of_file in rules(paths.values(), read_uid):
        if of_file is read_uid and (best or not any(map(UID.fullmatch, paths.values()))):
            break
        index: defaultdict[str | None, list[str]] = defaultdict(list)
        for file in files:
            index[of_file(file)].append(file)
        index.pop(None, None)
        reduced = {value: of_value(path) for value, path in paths.items()}
        found = {value: index[path] for value, path in reduced.items() if path is not None and path in index}
        found = {value: _exact(files_found, reduced[value]) for value, files_found in found.items()}
        if (n_found := (_n_own(found), len(found))) > most:
            best = found
            most = n_found
        if most[0] == len(paths):
            break
    _require_one_file_each(best)
    return {value: found[0] for value, found in best.items()}


def rules(paths: Iterable[str], read_uid: ReadUid | None) -> Iterator[tuple[Reduce, Reduce]]:
    """Yield what is compared under each rule: a function of the row's path, and one of the file's."""
    yield _itself, _itself
    for n_parts in range(max((path.count("/") + 1 for path in paths), default=1), 0, -1):
        yield _last(n_parts), _last(n_parts)
    yield _stem, _stem
    if read_uid is not None:
        yield _itself, read_uid


def _itself(path: str) -> str | None:
    return path


def _last(n_parts: int) -> Reduce:
    def reduce(path: str) -> str | None:
        parts = path.split("/")
        return "/".join(parts[-n_parts:]) if len(parts) >= n_parts else None

    return reduce


def _stem(path: str) -> str:
    return without_suffix(path.rpartition("/")[2])


def normal(value: str) -> str:
    """Return a path with `/`, and without empty folders and `.`."""
    parts = value.replace("\\", "/").split("/")
    return "/".join(part for part in parts if part not in ("", "."))


def _exact(found: list[str], path: str | None) -> list[str]:
    """Return the file at exactly this path, if it is among those found."""
    return [path] if path in found else found


def _n_own(found: dict[str, list[str]]) -> int:
    """Return how many values name one file that no other value names."""
    n_values = Counter(files[0] for files in found.values() if len(files) == 1)
    return sum(n == 1 for n in n_values.values())


def _require_one_file_each(found: dict[str, list[str]]) -> None:
    owner: dict[str, str] = {}
    for value, files in found.items():
        if len(files) > 1:
            raise DataError(
                f"{value!r} is two files, {files[0]!r} and {files[1]!r}: give a column that holds the folder."
            )
        other = owner.setdefault(files[0], value)
        if other != value:
            raise DataError(
                f"{other!r} and {value!r} both name the file {files[0]!r}: give a column that holds the folder."
            )
