"""The manifest: one row per image found, with its vital signs, whether it is used, and the reason if not.

Every file at a place where an image is expected has a row. `status` is `unreadable` (with the reason), `duplicate` (an
earlier row has the same bytes under the same label), or `used`. Copies are neither trained on nor evaluated twice, but
they stay in the table and in the folds, so that none can end up in another fold by mistake. The same bytes under two
labels stay `used`, with the other's path as reason; the data checks stop there.
"""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import pandas as pd

from cxr.config import DataConfig
from cxr.dataset.findings import label_findings
from cxr.dataset.listing.labels import label_of, subtype_of
from cxr.dataset.listing.layout import Listing, SourceImage
from cxr.dataset.patients import Patient, choose_pattern, find_patients
from cxr.dataset.reading import Entry, read_images
from cxr.images.source import Source
from cxr.images.vitals import Vitals
from cxr.labels.resolution import Resolved

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
    found, vitals = read_images(source, listing.images, cache, size)
    manifest = _table(_rows(listing.images, found, config), vitals)
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


def _rows(images: list[SourceImage], entries: list[Entry], config: DataConfig) -> list[dict[str, Any]]:
    paths = [image.path for image in images]
    pattern = choose_pattern(paths, config.patient_pattern)
    found = find_patients(paths, [entry.patient_id for entry in entries], pattern)
    named = [Patient(image.patient_id, "table") if image.patient_id else None for image in images]
    patients = [of_table or of_file for of_table, of_file in zip(named, found, strict=True)]
    return [_row(*facts, config) for facts in zip(images, entries, patients, strict=True)]


def _row(image: SourceImage, entry: Entry, patient: Patient, config: DataConfig) -> dict[str, Any]:
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
