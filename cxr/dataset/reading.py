"""Every image of a data set, read once: what it contributes to the manifest, and to the cache.

An image that cannot be read has the reason in the place of its header. An image that is not decoded for want of memory
stops the reading: left out, it would change the data set.
"""

import dataclasses
import logging
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr.dataset.listing.file_kinds import needs_pydicom
from cxr.dataset.listing.layout import SourceImage
from cxr.errors import DataError, UnreadableError
from cxr.images.decoding import Header, open_prepared
from cxr.images.dicom import patient as dicom_patient
from cxr.images.dicom import radiograph
from cxr.images.dicom.file import is_dicom
from cxr.images.reading import read
from cxr.images.source import MAX_IMAGE_BYTES, Source
from cxr.images.vitals import Vitals, measure, open_vitals

log = logging.getLogger(__name__)

CHUNK = 512
"""Images read between two writes to the cache."""


@dataclass(frozen=True)
class Entry:
    """What one image contributes to the manifest and to the cache."""

    image_id: str | None = None
    header: Header | None = None
    """None if the image is unreadable."""
    patient_id: str | None = None
    reason: str | None = None
    """Why the image is unreadable."""
    square: NDArray[np.uint8] | None = None
    """New for the cache, as are the thumbnail and the vital signs; None if the cache holds them already."""
    thumbnail: NDArray[np.uint8] | None = None
    vitals: Vitals | None = None


def read_images(
    source: Source, images: Sequence[SourceImage], cache: Path, size: int | None
) -> tuple[list[Entry], pd.DataFrame]:
    """Read every image once; return what each contributes, and the vital signs of all that can be read, by image_id.

    Args:
        source: the open data set.
        images: of it.
        cache: gets thumbnails with vital signs, and squares.
        size: side of the squares, in pixels; None for no squares.

    Raises:
        DataError: there are DICOM images, and pydicom is not installed; or this machine is short of memory.
    """
    n_dicom = sum(needs_pydicom(image.path) for image in images)
    if n_dicom:
        radiograph.require_pydicom(n_dicom)
    reader = _Reader(source, cache, size)
    found: list[Entry] = []
    total = len(images)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, total, CHUNK):
            entries = list(pool.map(reader.read, images[start : start + CHUNK]))
            reader.keep(entries)
            found += [dataclasses.replace(entry, square=None, thumbnail=None, vitals=None) for entry in entries]
            log.info(
                "read %d of %d images", len(found), total, extra={"bar": "images read", "done": len(found), "of": total}
            )
    return found, reader.thumbnails.facts()


class _Reader:
    """Reads images; caches thumbnails with vital signs and, if a size is given, squares."""

    def __init__(self, source: Source, cache: Path, size: int | None) -> None:
        self.source = source
        self.cache = cache
        self.thumbnails = open_vitals(cache)
        self.size = size
        self.prepared = open_prepared(cache, size) if size else None
        self._patient_key: bytes | None = None
        self._first_dicom = threading.Lock()

    def read(self, image: SourceImage) -> Entry:
        """Return what one image contributes.

        Raises:
            DataError: this machine is short of memory: an image that is left out for that would change the data set.
        """
        try:
            return self._read(image)
        except MemoryError as error:
            raise DataError(
                f"this machine is too short of memory to decode {image.path!r}: free some, then run the same command "
                "again; images that are decoded already are kept in the cache."
            ) from error

    def _read(self, image: SourceImage) -> Entry:
        if image.n_bytes > MAX_IMAGE_BYTES:
            return Entry(reason=f"too large: {image.n_bytes:,} bytes, at most {MAX_IMAGE_BYTES:,}")
        try:
            data = self.source.read(image.key)
        except MemoryError:
            raise
        except Exception as error:  # OSError; from a damaged zip also BadZipFile, zlib.error, EOFError, struct.error, …
            return Entry(reason=f"cannot be read: {getattr(error, 'strerror', None) or error}")
        reading = read(data, self.size, needs_pixels=self._is_new)
        try:
            patient_id = self._patient_id(data) if reading.header else None
        except UnreadableError as error:
            return Entry(reading.image_id, reason=str(error))
        if reading.refused and reading.refused.reason == "short_of_memory":
            raise MemoryError
        if reading.refused:
            return Entry(reading.image_id, reason=str(reading.refused))
        if reading.picture is None:
            return Entry(reading.image_id, reading.header, patient_id)
        vitals, thumbnail = measure(reading.picture)
        return Entry(reading.image_id, reading.header, patient_id, None, reading.square, thumbnail, vitals)

    def _is_new(self, image_id: str) -> bool:
        """Return whether the cache lacks anything of an image."""
        return image_id not in self.thumbnails or (self.prepared is not None and image_id not in self.prepared)

    def _patient_id(self, data: bytes) -> str | None:
        if not is_dicom(data):
            return None
        with self._first_dicom:
            self._patient_key = self._patient_key or dicom_patient.patient_key(self.cache)
        return dicom_patient.hash_patient(data, self._patient_key)

    def keep(self, entries: list[Entry]) -> None:
        """Add to the cache what it lacks of these images."""
        new = {e.image_id: e for e in entries if e.image_id and e.thumbnail is not None}
        unmeasured = {image_id: e for image_id, e in new.items() if image_id not in self.thumbnails}
        facts = pd.DataFrame([dataclasses.asdict(e.vitals) for e in unmeasured.values() if e.vitals])
        thumbnails = {image_id: e.thumbnail for image_id, e in unmeasured.items() if e.thumbnail is not None}
        self.thumbnails.add(thumbnails, facts)
        if self.prepared is not None:
            squares = {i: e.square for i, e in new.items() if e.square is not None and i not in self.prepared}
            self.prepared.add(squares)
