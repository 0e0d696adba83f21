"""Arrays on disk, one for each film, found by the film's content; films are added, never changed.

A call to `add` writes one shard: the arrays as a memory-mapped `.npy`, and beside it a table of the ids
and of whatever else is known of the films. The table is written last, so a shard without it was never
finished and is not looked at; a shard whose array does not fit its table is damaged and left out.
"""

import logging
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import DTypeLike, NDArray

from cxr import store

log = logging.getLogger(__name__)


class FilmArrays:
    """Arrays of one shape and type in one folder, by image_id."""

    def __init__(self, folder: Path, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        self.shape, self.dtype = shape, np.dtype(dtype)
        self._folder = folder
        self._place: dict[str, tuple[NDArray[Any], int]] = {}
        self._facts: list[pd.DataFrame] = []
        for index in sorted(self._folder.glob("*.parquet")):
            self._open_shard(index)

    def _open_shard(self, index: Path) -> None:
        try:
            facts = store.read_table(index)
            arrays = np.load(index.with_suffix(".npy"), mmap_mode="r")
            if arrays.shape != (len(facts), *self.shape) or arrays.dtype != self.dtype:
                raise ValueError(f"shape {arrays.shape} for {len(facts)} films")
        except (OSError, ValueError, EOFError) as error:
            log.warning("the cache %s is damaged (%s); these films are computed again", index, error)
            return
        self._place.update({image_id: (arrays, row) for row, image_id in enumerate(facts["image_id"])})
        self._facts.append(facts)

    @property
    def n_bytes(self) -> int:
        """Bytes of one film's array."""
        return int(np.prod(self.shape)) * self.dtype.itemsize

    def __contains__(self, image_id: str) -> bool:
        return image_id in self._place

    def add(self, arrays: Mapping[str, NDArray[Any]], facts: pd.DataFrame | None = None) -> None:
        """Keep the arrays under their films' ids.

        Args:
            arrays: by image_id.
            facts: one row per array, in their order: what else is known of the film.
        """
        if not arrays:
            return
        index = self._folder / f"{uuid.uuid4().hex}.parquet"
        with store.replacing(index.with_suffix(".npy")) as temporary, temporary.open("wb") as file:
            np.save(file, np.stack(list(arrays.values())))
        ids = pd.DataFrame({"image_id": list(arrays)})
        store.write_table(index, ids if facts is None else pd.concat([ids, facts], axis=1))
        self._open_shard(index)

    def load(self, image_ids: Sequence[str]) -> NDArray[Any]:
        """Return the films' arrays in the order given, shape (n, *shape); KeyError if one is missing."""
        arrays = np.empty((len(image_ids), *self.shape), dtype=self.dtype)
        for row, image_id in enumerate(image_ids):
            shard, place = self._place[image_id]
            arrays[row] = shard[place]
        return arrays

    def facts(self) -> pd.DataFrame:
        """Return what was kept of each film beside its array, indexed by image_id."""
        if not self._facts:
            return pd.DataFrame({"image_id": []}).set_index("image_id")
        return pd.concat(self._facts).drop_duplicates("image_id").set_index("image_id")
