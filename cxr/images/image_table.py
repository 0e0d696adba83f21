"""Images that lie in several places, as one source: a table names the place, the file there, and the content of each.

`cxr retrain` writes such a table for the images of a model and those that were labelled since. Nothing is copied: a
file is read where it lies, and one whose content is another by now is not read.
"""

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from cxr.images.reading import image_id_of
from cxr.storage import verified

if TYPE_CHECKING:
    from cxr.images.source import Source

SUFFIX = ".parquet"
COLUMNS = ["path", "place", "file", "image_id", "n_bytes"]


class ImageTable:
    """The images that a table names, by their path in it.

    Args:
        rows: COLUMNS: path, the image's own in this source; place, a folder or archive as `open_source` takes it; file,
            its path there; image_id; n_bytes.
        open_place: opens a place.
    """

    def __init__(self, rows: pd.DataFrame, open_place: "Callable[[str], Source]") -> None:
        self._rows = rows.set_index("path")[COLUMNS[1:]].to_dict("index")
        self._open_place = open_place

    @classmethod
    def at(cls, file: Path, open_place: "Callable[[str], Source]") -> "ImageTable":
        """Return the images of a table that cxr wrote.

        Raises:
            DamagedError: it is no such table, or was changed.
        """
        return cls(verified.read_table(file), open_place)

    def sizes(self) -> Mapping[str, int]:
        """Return each image's path and size in bytes."""
        return {str(path): int(row["n_bytes"]) for path, row in self._rows.items()}

    def empty_folders(self) -> list[str]:
        """Return none: only images are known."""
        return []

    def read(self, path: str) -> bytes:
        """Return an image's bytes.

        Raises:
            DataError: its place is gone.
            OSError: the image cannot be read, or is another file by now.
        """
        row = self._rows[path]
        try:
            data = self._places[row["place"]].read(row["file"])
        except KeyError as error:
            raise OSError(f"it is no longer in {row['place']!r}") from error
        if image_id_of(data) != row["image_id"]:
            raise OSError("it is another file now")
        return data

    def head(self, path: str, n_bytes: int) -> bytes:
        """Return an image's first bytes, `n_bytes` at most; it raises what `read` raises."""
        return self.read(path)[:n_bytes]

    @cached_property
    def _places(self) -> "dict[str, Source]":
        places = {row["place"] for row in self._rows.values()}
        return {place: self._open_place(place) for place in sorted(places)}
