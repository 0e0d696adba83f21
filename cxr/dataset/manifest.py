"""The manifest: one row per image found, whether it can be used, and if not, why; and its vital signs.

Every file that lies where an image lies has a row. `status` is `unreadable` (with the reason), `duplicate`
(the same bytes under the same label stand in an earlier row), or `used`. Copies are neither trained on
nor judged twice, yet stay in the table and in the folds, so that nobody can hold one out by mistake. The
same bytes under two labels stay `used` with the other's path as reason: the data checks stop there.
"""

import dataclasses
import hashlib
import logging
import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr.config import DataConfig
from cxr.errors import ConfigError, DataError, UnreadableError
from cxr.images import dicom
from cxr.images.decoding import Header, decode_image, open_prepared, read_header, stretch
from cxr.images.source import MAX_IMAGE_BYTES, Listing, Source, SourceImage
from cxr.images.vitals import Vitals, measure, open_vitals

log = logging.getLogger(__name__)

VITALS = [field.name for field in dataclasses.fields(Vitals)]
COLUMNS = [
    "image_id",
    "path",
    "label",
    "subtype",
    "split",
    "patient_id",
    "width",
    "height",
    "mode",
    "bits",
    "n_bytes",
    "status",
    "reason",
    *VITALS,
]
SUBTYPE = re.compile(r"_(bacteria|virus)(?=[_.])", re.IGNORECASE)
CHUNK = 512


@dataclass(frozen=True)
class _Reading:
    """What one image's bytes gave; the last three are None as well where the image was decoded before."""

    image_id: str | None = None
    header: Header | None = None
    patient_id: str | None = None
    reason: str | None = None
    square: NDArray[np.uint8] | None = None
    thumbnail: NDArray[np.uint8] | None = None
    vitals: Vitals | None = None


class _Reader:
    """Reads images and keeps what was decoded: thumbnails with vital signs, and squares of a size if one is given."""

    def __init__(self, source: Source, cache: Path, size: int | None, *, with_dicom: bool) -> None:
        self.source = source
        self.thumbnails = open_vitals(cache)
        self.size = size
        self.prepared = open_prepared(cache, size) if size else None
        self.patient_key = dicom.patient_key(cache) if with_dicom else None

    def read(self, image: SourceImage) -> _Reading:
        if image.n_bytes > MAX_IMAGE_BYTES:
            return _Reading(reason=f"too large: {image.n_bytes:,} bytes, at most {MAX_IMAGE_BYTES:,}")
        try:
            data = self.source.read(image.key)
        except Exception as error:  # OSError; from a damaged zip also BadZipFile, zlib.error, EOFError, struct.error, …
            return _Reading(reason=f"cannot be read: {getattr(error, 'strerror', None) or error}")
        image_id = hashlib.sha256(data).hexdigest()
        try:
            header = read_header(data)
            patient_id = (
                dicom.hash_patient(data, self.patient_key) if self.patient_key and dicom.is_dicom(data) else None
            )
            if image_id in self.thumbnails and (self.prepared is None or image_id in self.prepared):
                return _Reading(image_id, header, patient_id)
            picture = decode_image(data, self.size or 0)
            vitals, thumbnail = measure(picture)
            square = stretch(picture.grey, self.size) if self.size else None
            return _Reading(image_id, header, patient_id, None, square, thumbnail, vitals)
        except UnreadableError as error:
            return _Reading(image_id, reason=str(error))

    def keep(self, readings: list[_Reading]) -> None:
        """Write to the cache what it lacks of these images."""
        new = {r.image_id: r for r in readings if r.image_id and r.thumbnail is not None}
        fresh = {image_id: r for image_id, r in new.items() if image_id not in self.thumbnails}
        facts = pd.DataFrame([dataclasses.asdict(r.vitals) for r in fresh.values() if r.vitals])
        self.thumbnails.add({image_id: r.thumbnail for image_id, r in fresh.items() if r.thumbnail is not None}, facts)
        if self.prepared is not None:
            missing = {i: r.square for i, r in new.items() if r.square is not None and i not in self.prepared}
            self.prepared.add(missing)


def build_manifest(
    source: Source, listing: Listing, config: DataConfig, cache: Path, size: int | None = None
) -> pd.DataFrame:
    """Read every image once; return the manifest, ordered by path.

    Args:
        size: side of the squares, in pixels, to leave in the cache beside the vital signs; None for none.

    Raises:
        DataError: there are DICOM images and pydicom is missing.
    """
    n_dicom = sum(image.path.lower().endswith(".dcm") for image in listing.images)
    if n_dicom:
        dicom.require_pydicom(n_dicom)
    reader = _Reader(source, cache, size, with_dicom=n_dicom > 0)
    rows: list[dict[str, Any]] = []
    total = len(listing.images)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, total, CHUNK):
            images = listing.images[start : start + CHUNK]
            readings = list(pool.map(reader.read, images))
            rows += [_row(image, reading, config) for image, reading in zip(images, readings, strict=True)]
            reader.keep(readings)
            log.info(
                "read %d of %d images", len(rows), total, extra={"bar": "images read", "done": len(rows), "of": total}
            )
    facts = reader.thumbnails.facts()
    known = [column for column in COLUMNS if column not in VITALS]
    numbers = {"width": "Int32", "height": "Int32", "bits": "Int32", "n_bytes": "int64"}
    manifest = pd.DataFrame(rows, columns=known).astype(dict.fromkeys(known, "str") | numbers)
    readable = manifest["image_id"].where(manifest["status"] != "unreadable")
    manifest = pd.concat([manifest, facts.reindex(readable).reindex(columns=VITALS).reset_index(drop=True)], axis=1)
    _mark_copies(manifest)
    return manifest


def _row(image: SourceImage, reading: _Reading, config: DataConfig) -> dict[str, Any]:
    name = image.path.rsplit("/", 1)[-1]
    subtype = SUBTYPE.search(name)
    patient = re.search(config.patient_pattern, name)
    subtype = subtype.group(1).lower() if subtype else None
    header = reading.header
    return {
        "image_id": reading.image_id,
        "path": image.path,
        "label": subtype if subtype and config.label_from == "subtype" else image.class_folder,
        "subtype": subtype,
        "split": image.split,
        "patient_id": reading.patient_id or (patient.group(1) if patient else None),
        "width": header.width if header else None,
        "height": header.height if header else None,
        "mode": header.mode if header else None,
        "bits": header.bits if header else None,
        "n_bytes": image.n_bytes,
        "status": "used" if header else "unreadable",
        "reason": reading.reason,
    }


def _mark_copies(manifest: pd.DataFrame) -> None:
    readable = manifest[manifest["status"] == "used"]
    for _, copies in readable[readable.duplicated("image_id", keep=False)].groupby("image_id", sort=False):
        first = copies.drop_duplicates("label")
        for label, same in copies.groupby("label"):
            manifest.loc[same.index[1:], ["status", "reason"]] = ["duplicate", f"same bytes as {same['path'].iloc[0]}"]
            others = first[first["label"] != label]
            if not others.empty:
                other = others.iloc[0]
                manifest.loc[same.index[0], "reason"] = f"same bytes as {other['path']}, which is {other['label']}"


def data_hash(manifest: pd.DataFrame) -> str:
    """Return a SHA-256 over every image's path, label and content: equal for a folder and for a zip of it."""
    lines = manifest[["path", "label", "image_id"]].fillna("").agg("\t".join, axis=1)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def count_images(manifest: pd.DataFrame) -> dict[str, int]:
    """Return the flow of images: found, and of these unreadable, duplicate and used."""
    status = manifest["status"]
    return {"found": len(manifest)} | {
        name: int((status == name).sum()) for name in ("unreadable", "duplicate", "used")
    }


def count_identical(manifest: pd.DataFrame) -> dict[str, int]:
    """Return how many groups of byte-identical images there are, of how many images, and how many in two classes."""
    readable = manifest[manifest["status"] != "unreadable"]
    copies = readable[readable.duplicated("image_id", keep=False)].groupby("image_id")
    return {
        "groups": copies.ngroups,
        "images": int(copies.size().sum()),
        "across_classes": int((copies["label"].nunique() > 1).sum()),
    }


def class_names(manifest: pd.DataFrame, config: DataConfig) -> list[str]:
    """Return the classes in the order of the model's outputs: sorted, but of two the positive one last.

    Raises:
        DataError: fewer than two classes have a usable image.
        ConfigError: of two classes none is positive, or `positive` is no class, or there are more than two.
    """
    used = manifest[manifest["status"] == "used"]
    names = sorted(used["label"].unique())
    if len(names) < 2:
        raise DataError(f"two classes or more are needed, but usable images were found only in {names or 'none'}.")
    if config.label_from == "subtype" and used["subtype"].isna().all():
        raise ConfigError("--label-from subtype needs names like person1_bacteria_2.jpeg, but no image has a subtype.")
    if len(names) > 2:
        if config.positive is not None:
            raise ConfigError(f"--positive is for two classes; {len(names)} were found: {', '.join(names)}.")
        return names
    positive = config.positive or "PNEUMONIA"
    if positive not in names:
        raise ConfigError(
            f"--positive must name one of the classes {names[0]!r} and {names[1]!r}, got {config.positive!r}."
        )
    return sorted(names, key=lambda name: name == positive)
