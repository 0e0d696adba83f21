"""Which scored image a row of a label table means: by image_id, path or SOPInstanceUID.

An image is its content: under however many names it was scored, it is one, and a name that stands for two contents is
refused. As in training, one rule serves for a whole column: the one under which most rows have an image of their own.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

import pandas as pd

from cxr.errors import DataError
from cxr.labels.matching import UID, ReadUid, normal, rules

IMAGE_ID = re.compile(r"[0-9a-fA-F]{64}")
Named = Mapping[str, set[str]]


class ScoredImages:
    """Finds the image of each value, and remembers the values that name none.

    Args:
        rows: of the scores: key and image_id, ordered by time.
    """

    def __init__(self, rows: pd.DataFrame) -> None:
        named: defaultdict[str, set[str]] = defaultdict(set)
        for key, image_id in zip(rows["key"], rows["image_id"], strict=True):
            named[key].add(image_id)
        self._named = dict(named)
        self._key_of = rows.drop_duplicates("image_id").set_index("image_id")["key"].to_dict()
        self._id_of: dict[str, str] = {}
        self.unmatched: list[str] = []
        """Values of the path column that name no scored image, in the table's order."""

    def find(self, values: Sequence[str], files: Sequence[str], read_uid: ReadUid) -> dict[str, str]:
        """Return for each value the image, as the first key that it was scored under; see `Match`.

        Raises:
            DataError: a value stands for two images.
        """
        found = self._best(values, files, read_uid)
        self.unmatched = [value for value in values if value not in found]
        for value, images in found.items():
            if len(images) > 1:
                first, second = (self._key_of[image] for image in sorted(images)[:2])
                raise DataError(
                    f"{value!r} is two scored images, {first!r} and {second!r}, whose contents differ: give the batch "
                    "with the path (BATCH/PATH), or the image_id."
                )
        return {value: self._key_for(next(iter(images))) for value, images in found.items()}

    def image_id(self, key: str) -> str:
        """Return the image that `find` has given this key for."""
        return self._id_of[key]

    def _key_for(self, image_id: str) -> str:
        """Return a key that stands for one image alone: with its id, if another content has had the same name."""
        name = self._key_of[image_id]
        key = name if len(self._named[name]) == 1 else f"{name} ({image_id})"
        self._id_of[key] = image_id
        return key

    def _best(self, values: Sequence[str], files: Sequence[str], read_uid: ReadUid) -> Named:
        paths = {value: normal(value) for value in values}
        best: Named = {}
        most = 0
        for named in self._by_rule(paths, files):
            n_own = sum(len(images) == 1 for images in named.values())
            if n_own > most or (not best and named):
                best = named
                most = n_own
            if most == len(values):
                break
        if not best and any(map(UID.fullmatch, paths.values())):  # every file has to be read
            best = self._named_by(paths, str, {key: read_uid(key) for key in files})
        return best

    def _by_rule(self, paths: Mapping[str, str], files: Sequence[str]) -> Iterator[Named]:
        """Yield the images that each value names under each rule; `paths` are the values as paths."""
        known = self._key_of.keys()
        yield {value: {value.lower()} for value in paths if value.lower() in known}
        for of_value, of_key in rules(paths.values(), None):
            yield self._named_by(paths, of_value, {key: of_key(key) for key in files})

    def _named_by(
        self, paths: Mapping[str, str], of_value: Callable[[str], str | None], of_key: Mapping[str, str | None]
    ) -> Named:
        index: defaultdict[str, set[str]] = defaultdict(set)
        for key, reduced in of_key.items():
            if reduced is not None:
                index[reduced] |= self._named[key]
        reduced_values = {value: of_value(path) for value, path in paths.items()}
        exact = {value: self._named[path] for value, path in paths.items() if path in self._named}
        return {
            value: exact.get(value, index[reduced])
            for value, reduced in reduced_values.items()
            if reduced is not None and reduced in index
        }
