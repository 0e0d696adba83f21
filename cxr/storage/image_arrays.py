"""Arrays on disk, one per image, keyed by the image's content; arrays are added, never changed.

Each call to `add` writes one shard: the arrays as a memory-mapped `.npy`, and beside it a table of the image ids, a
checksum per array, and any other facts about the images. The table is written last, so a shard without a table is
unfinished and is ignored.

Disks lose bytes. An array is compared with its checksum (CRC-32) when a process first asks for it. If it has changed,
it counts as missing, and the caller computes it again, into a new shard. A shard that cannot be opened, or whose table
has changed, is deleted.
"""

import logging
import threading
import uuid
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import DTypeLike, NDArray

from cxr.errors import DamagedError
from cxr.storage import files

log = logging.getLogger(__name__)

CHECKSUM = "crc32"


@dataclass(frozen=True)
class _Slot:
    """Where an image's array is: its shard's table and arrays, its row in them, and its checksum."""

    index: Path
    arrays: NDArray[Any]
    row: int
    checksum: int

    @property
    def array(self) -> NDArray[Any]:
        return self.arrays[self.row]

    def is_intact(self) -> bool:
        return zlib.crc32(self.array.data) == self.checksum


class ImageArrays:
    """Arrays of one shape and type in one folder, by image_id.

    Args:
        folder: holds the shards; created when the first one is written.
        shape: of each array.
        dtype: of each array.
    """

    def __init__(self, folder: Path, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self._folder = folder
        self._slots: dict[str, list[_Slot]] = {}
        """By image_id; the slot that is tried first is last."""
        self._intact: set[str] = set()
        self._facts: list[pd.DataFrame] = []
        self._lock = threading.Lock()
        for index in sorted(self._folder.glob("*.parquet")):
            self._open_shard(index)

    def _open_shard(self, index: Path) -> None:
        try:
            facts = files.read_table(index)
            arrays = np.load(index.with_suffix(".npy"), mmap_mode="r")
            if arrays.shape != (len(facts), *self.shape) or arrays.dtype != self.dtype or CHECKSUM not in facts:
                raise ValueError(f"{arrays.dtype} of shape {arrays.shape} for {len(facts)} images")
        except FileNotFoundError:  # another process has just deleted it
            return
        except (DamagedError, ValueError, EOFError) as error:
            log.warning("the cache %s is damaged (%s): it is deleted, and its images are computed again", index, error)
            for file in (index, index.with_suffix(".npy")):
                file.unlink(missing_ok=True)
            return
        for row, (image_id, crc) in enumerate(zip(facts["image_id"], facts[CHECKSUM], strict=True)):
            self._slots.setdefault(image_id, []).append(_Slot(index, arrays, row, crc))
        self._facts.append(facts.drop(columns=CHECKSUM))

    @property
    def n_bytes(self) -> int:
        """Bytes of one image's array."""
        return int(np.prod(self.shape)) * self.dtype.itemsize

    def __contains__(self, image_id: str) -> bool:
        """Return whether an image's array is there and is as it was written."""
        with self._lock:
            slots = self._slots.get(image_id, [])
            while slots and image_id not in self._intact:
                if slots[-1].is_intact():
                    self._intact.add(image_id)
                else:
                    log.warning("the cache %s is damaged: image %s… has changed", slots[-1].index, image_id[:12])
                    slots.pop()
            return bool(slots)

    def add(self, arrays: Mapping[str, NDArray[Any]], facts: pd.DataFrame | None = None) -> None:
        """Write the arrays as one new shard.

        Args:
            arrays: by image_id.
            facts: other facts about the images, one row per array, in the same order.

        Raises:
            DiskFullError: no space is left; nothing is added.
        """
        if not arrays:
            return
        index = self._folder / f"{uuid.uuid4().hex}.parquet"
        stacked = np.ascontiguousarray(np.stack(list(arrays.values())))
        header = np.lib.format.header_data_from_array_1_0(stacked)
        with files.replacing(index.with_suffix(".npy")) as temporary, temporary.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            file.write(stacked.data)  # np.save would not report a full disk
        known = pd.DataFrame({"image_id": list(arrays), CHECKSUM: [zlib.crc32(array.data) for array in stacked]})
        files.write_table(index, known if facts is None else pd.concat([known, facts], axis=1))
        self._open_shard(index)

    def load(self, image_ids: Sequence[str]) -> NDArray[Any]:
        """Return the images' arrays in the given order, shape (n, *shape).

        Raises:
            KeyError: an array is missing or damaged.
        """
        arrays = np.empty((len(image_ids), *self.shape), dtype=self.dtype)
        for row, image_id in enumerate(image_ids):
            if image_id not in self:
                raise KeyError(image_id)
            arrays[row] = self._slots[image_id][-1].array
        return arrays

    def facts(self) -> pd.DataFrame:
        """Return the facts that were added with the arrays, one row per image, indexed by image_id."""
        if not self._facts:
            return pd.DataFrame({"image_id": []}).set_index("image_id")
        return pd.concat(self._facts).drop_duplicates("image_id").set_index("image_id")
