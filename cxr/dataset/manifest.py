"""The manifest: one row per image found, with its vital signs, whether it is used, and the reason if not.

Every file at a place where an image is expected has a row. `status` is `unreadable` (with the reason), `duplicate` (an
earlier row has the same bytes under the same label), or `used`. Copies are neither trained on nor evaluated twice, but
they stay in the table and in the folds, so that none can end up in another fold by mistake. The same bytes under two
labels stay `used`, with the other's path as reason; the data checks stop there.
"""

import dataclasses
import hashlib
import logging
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr.config import DataConfig
from cxr.dataset.findings import label_findings
from cxr.dataset.listing.file_kinds import needs_pydicom
from cxr.dataset.listing.labels import label_of, subtype_of
from cxr.dataset.listing.layout import Listing, SourceImage
from cxr.dataset.patients import Patient, choose_pattern, find_patients
from cxr.errors import DataError, UnreadableError
from cxr.images.decoding import Header, open_prepared
from cxr.images.dicom import patient as dicom_patient
from cxr.images.dicom import radiograph
from cxr.images.dicom.file import is_dicom
from cxr.images.reading import read
from cxr.images.source import MAX_IMAGE_BYTES, Source
from cxr.images.vitals import Vitals, measure, open_vitals
from cxr.labels.resolution import Resolved

log = logging.getLogger(__name__)

VITALS = [field.name for field in dataclasses.fields(Vitals)]
COLUMNS = [
    "image_id",
    "path",
    "label",
    "subtype",
    "split",
    "patient_id",
    "patient_from",
    "width",
    "height",
    "mode",
    "bits",
    "n_bytes",
    "status",
    "reason",
    *VITALS,
]
CHUNK = 512
"""Images read between two writes to the cache."""


@dataclass(frozen=True)
class _Entry:
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

    def read(self, image: SourceImage) -> _Entry:
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

    def _read(self, image: SourceImage) -> _Entry:
        if image.n_bytes > MAX_IMAGE_BYTES:
            return _Entry(reason=f"too large: {image.n_bytes:,} bytes, at most {MAX_IMAGE_BYTES:,}")
        try:
            data = self.source.read(image.key)
        except MemoryError:
            raise
        except Exception as error:  # OSError; from a damaged zip also BadZipFile, zlib.error, EOFError, struct.error, …
            return _Entry(reason=f"cannot be read: {getattr(error, 'strerror', None) or error}")
        reading = read(data, self.size, needs_pixels=self._is_new)
        try:
            patient_id = self._patient_id(data) if reading.header else None
        except UnreadableError as error:
            return _Entry(reading.image_id, reason=str(error))
        if reading.refused and reading.refused.reason == "short_of_memory":
            raise MemoryError
        if reading.refused:
            return _Entry(reading.image_id, reason=str(reading.refused))
        if reading.picture is None:
            return _Entry(reading.image_id, reading.header, patient_id)
        vitals, thumbnail = measure(reading.picture)
        return _Entry(reading.image_id, reading.header, patient_id, None, reading.square, thumbnail, vitals)

    def _is_new(self, image_id: str) -> bool:
        """Return whether the cache lacks anything of an image."""
        return image_id not in self.thumbnails or (self.prepared is not None and image_id not in self.prepared)

    def _patient_id(self, data: bytes) -> str | None:
        if not is_dicom(data):
            return None
        with self._first_dicom:
            self._patient_key = self._patient_key or dicom_patient.patient_key(self.cache)
        return dicom_patient.hash_patient(data, self._patient_key)

    def keep(self, entries: list[_Entry]) -> None:
        """Add to the cache what it lacks of these images."""
        new = {e.image_id: e for e in entries if e.image_id and e.thumbnail is not None}
        unmeasured = {image_id: e for image_id, e in new.items() if image_id not in self.thumbnails}
        facts = pd.DataFrame([dataclasses.asdict(e.vitals) for e in unmeasured.values() if e.vitals])
        thumbnails = {image_id: e.thumbnail for image_id, e in unmeasured.items() if e.thumbnail is not None}
        self.thumbnails.add(thumbnails, facts)
        if self.prepared is not None:
            squares = {i: e.square for i, e in new.items() if e.square is not None and i not in self.prepared}
            self.prepared.add(squares)


def build_manifest(
    source: Source,
    listing: Listing,
    config: DataConfig,
    cache: Path,
    size: int | None = None,
    findings: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Read every image once; return the manifest, ordered by path; columns as in COLUMNS, then those of findings.

    Args:
        source: the open data set.
        listing: its images.
        config: says how labels and patient ids are found.
        cache: gets thumbnails with vital signs, and squares.
        size: side of the squares, in pixels; None for no squares.
        findings: what tables of labels say, a nullable boolean for each finding, by path; None without tables.

    Raises:
        DataError: there are DICOM images, and pydicom is not installed; or this machine is short of memory.
    """
    n_dicom = sum(needs_pydicom(image.path) for image in listing.images)
    if n_dicom:
        radiograph.require_pydicom(n_dicom)
    reader = _Reader(source, cache, size)
    found: list[_Entry] = []
    total = len(listing.images)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, total, CHUNK):
            images = listing.images[start : start + CHUNK]
            entries = list(pool.map(reader.read, images))
            reader.keep(entries)
            found += [dataclasses.replace(entry, square=None, thumbnail=None, vitals=None) for entry in entries]
            log.info(
                "read %d of %d images", len(found), total, extra={"bar": "images read", "done": len(found), "of": total}
            )
    manifest = _table(_rows(listing.images, found, config), reader.thumbnails.facts())
    if config.has_findings:
        manifest = label_findings(manifest, [image.class_folder for image in listing.images], config, findings)
    _mark_copies(manifest)
    return manifest


def _table(rows: list[dict[str, Any]], vitals: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with the vital signs, which are indexed by image_id."""
    columns = [column for column in COLUMNS if column not in VITALS]
    numbers = {"width": "Int32", "height": "Int32", "bits": "Int32", "n_bytes": "int64"}
    table = pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(columns, "str") | numbers)
    readable = table["image_id"].where(table["status"] != "unreadable")
    return pd.concat([table, vitals.reindex(readable).reindex(columns=VITALS).reset_index(drop=True)], axis=1)


def _rows(images: list[SourceImage], entries: list[_Entry], config: DataConfig) -> list[dict[str, Any]]:
    paths = [image.path for image in images]
    pattern = choose_pattern(paths, config.patient_pattern)
    found = find_patients(paths, [entry.patient_id for entry in entries], pattern)
    named = [Patient(image.patient_id, "table") if image.patient_id else None for image in images]
    patients = [of_table or of_file for of_table, of_file in zip(named, found, strict=True)]
    return [_row(*facts, config) for facts in zip(images, entries, patients, strict=True)]


def _row(image: SourceImage, entry: _Entry, patient: Patient, config: DataConfig) -> dict[str, Any]:
    header = entry.header
    return {
        "image_id": entry.image_id,
        "path": image.path,
        "label": label_of(image, config),
        "subtype": subtype_of(image),
        "split": image.split,
        "patient_id": patient.patient_id,
        "patient_from": patient.found_in,
        "width": header.width if header else None,
        "height": header.height if header else None,
        "mode": header.mode if header else None,
        "bits": header.bits if header else None,
        "n_bytes": image.n_bytes,
        "status": "used" if header else "unreadable",
        "reason": entry.reason or patient.remark,
    }


def _mark_copies(manifest: pd.DataFrame) -> None:
    """Mark copies as duplicates, and name the other image where two labels share the same bytes; in place."""
    readable = manifest[manifest["status"] == "used"]
    for _, copies in readable[readable.duplicated("image_id", keep=False)].groupby("image_id", sort=False):
        first = copies.drop_duplicates("label")
        for label, same in copies.groupby("label"):
            manifest.loc[same.index[1:], ["status", "reason"]] = ["duplicate", f"same bytes as {same['path'].iloc[0]}"]
            others = first[first["label"] != label]
            if not others.empty:
                other = others.iloc[0]
                manifest.loc[same.index[0], "reason"] = f"same bytes as {other['path']}, which is {other['label']}"


def data_hash(manifest: pd.DataFrame, resolved: Resolved | None = None) -> str:
    """Return a SHA-256 over every image's path, label and content: equal for a folder and for an archive of it.

    Where labels come from tables, it covers the tables and what they say of each image as well.
    """
    lines = manifest[["path", "label", "image_id"]].fillna("").agg("\t".join, axis=1)
    of_tables = [] if resolved is None else [resolved.sha256]
    return hashlib.sha256("\n".join([*lines, *of_tables]).encode()).hexdigest()


def count_images(manifest: pd.DataFrame) -> dict[str, int]:
    """Return the number of images found, and how many of them are unreadable, duplicate and used."""
    status = manifest["status"]
    return {"found": len(manifest)} | {
        name: int((status == name).sum()) for name in ("unreadable", "duplicate", "used")
    }


def count_identical(manifest: pd.DataFrame) -> dict[str, int]:
    """Return the number of groups of byte-identical images, of images in them, and of groups with several classes."""
    readable = manifest[manifest["status"] != "unreadable"]
    copies = readable[readable.duplicated("image_id", keep=False)].groupby("image_id")
    return {
        "groups": copies.ngroups,
        "images": int(copies.size().sum()),
        "across_classes": int((copies["label"].nunique() > 1).sum()),
    }
