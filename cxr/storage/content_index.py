"""Which content each file had when it was last read, so that a file that nobody has changed need not be read again.

Only a cache: what it says is true of the file with this path and signature, or it says nothing. Whether that content
has a row is for the scores to say. If the file is deleted or damaged, the images are read once more.
"""

import logging
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from cxr.errors import DamagedError
from cxr.storage import files

log = logging.getLogger(__name__)

COLUMNS = ["path", "signature", "image_id"]


class ContentIndex:
    """The known contents of a batch's files, by path and signature."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._known: dict[tuple[str, str], str] = {}
        self._is_changed = False
        if file.exists():
            self._load()

    def _load(self) -> None:
        try:
            table = files.read_table(self._file, COLUMNS)
        except DamagedError as error:
            log.info("the images of a batch are read again: %s", error)
            return
        keys = zip(table["path"], table["signature"], strict=True)
        self._known = dict(zip(keys, table["image_id"], strict=True))

    def get(self, path: str, signature: str | None) -> str | None:
        """Return the hash of a file's content; None if it is not known."""
        return None if signature is None else self._known.get((path, signature))

    def add(self, path: str, signature: str | None, image_id: str) -> None:
        """Remember the hash of a file's content, if it has a signature."""
        if signature is not None and self._known.get((path, signature)) != image_id:
            self._known[path, signature] = image_id
            self._is_changed = True

    def keep(self, present: Iterable[tuple[str, str | None]]) -> None:
        """Forget all files but these, by path and signature."""
        keys = set(present)
        kept = {key: image_id for key, image_id in self._known.items() if key in keys}
        self._is_changed |= len(kept) < len(self._known)
        self._known = kept

    def save(self) -> None:
        """Write the index, if it has changed."""
        if self._is_changed:
            rows = [(path, signature, image_id) for (path, signature), image_id in self._known.items()]
            files.write_table(self._file, pd.DataFrame(rows, columns=COLUMNS, dtype="str"))
            self._is_changed = False
