"""What is known of the patients of a data set: where their ids come from, how many there are, and who has most images.

Ids that are all different, or missing throughout, keep nobody's images together. That may be right, or the id may be
that of an image; nothing in the tables tells which, so it is said wherever somebody looks.
"""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from cxr.config import DataConfig
from cxr.dataset.patients import KNOWN, choose_pattern

log = logging.getLogger(__name__)

NOBODY = (
    "no patient is known to have two images; if that is not so, say where the patient stands (--patient-pattern, or "
    "--patient-column for tables of labels)"
)
WORDS = {"name": "file names", "path": "paths", "dicom": "DICOM's PatientID", "table": "tables of labels"}
COUNTED = ("patient_ids_from", "largest_patient", "n_patients_with_several_images", "patients_remark")
"""What `count_patients` counts; leakage certificates of older runs lack it."""


def with_pattern_found(config: DataConfig, paths: Sequence[str]) -> DataConfig:
    """Return the config with the pattern that finds patients in these paths."""
    return dataclasses.replace(config, patient_pattern=choose_pattern(paths, config.patient_pattern).pattern)


def log_patients(manifest: pd.DataFrame, pattern: str) -> None:
    """Log where patient ids come from; a warning if nobody is known to have two images.

    Args:
        manifest: of the data set.
        pattern: that paths were searched with.
    """
    readable = manifest[manifest["status"] != "unreadable"]
    counts = count_patients(readable)
    n_without = int(readable["patient_id"].isna().sum())
    log.info("patients: %s; %s images have none", patients_sentence(counts, pattern), f"{n_without:,}")
    if counts["patients_remark"]:
        log.warning("patients: %s", counts["patients_remark"])


def count_patients(images: pd.DataFrame) -> dict[str, Any]:
    """Return where patient ids come from, who has most images, and whether anybody is known to have two.

    Args:
        images: columns image_id, patient_id (missing where an image has none) and, if known, patient_from. Copies of
            an image count once.
    """
    distinct = images.drop_duplicates(["image_id", "patient_id"]).dropna(subset="patient_id")
    n_images = distinct["patient_id"].value_counts().sort_index()
    by_source = distinct.groupby(patient_sources(distinct))["patient_id"]
    largest = None if n_images.empty else {"patient_id": n_images.idxmax(), "n_images": int(n_images.max())}
    n_several = int((n_images > 1).sum())
    return {
        "patient_ids_from": {
            WORDS.get(str(source), str(source)): {"n_images": len(ids), "n_patient_ids": int(ids.nunique())}
            for source, ids in by_source
        },
        "largest_patient": largest,
        "n_patients_with_several_images": n_several,
        "patients_remark": None if n_several else NOBODY,
    }


def most_images_of_a_patient(images: pd.DataFrame) -> int:
    """Return how many images the patient has who has most of them; copies count once, 0 if no patient is known."""
    largest = count_patients(images)["largest_patient"]
    return largest["n_images"] if largest else 0


def patient_sources(images: pd.DataFrame) -> pd.Series:
    """Return where each image's patient id comes from: name, path, dicom or table; missing where it has none.

    Older manifests lack the column; in them, a PatientID is recognised by the form of its hash.
    """
    if "patient_from" in images:
        return images["patient_from"]
    ids = images["patient_id"].astype("str")
    is_dicom = ids.str.fullmatch(r"dicom-[0-9a-f]{16}").fillna(False).astype(bool)
    return pd.Series("name", images.index).mask(is_dicom, "dicom").where(images["patient_id"].notna())


def patients_sentence(counts: Mapping[str, Any], pattern: str) -> str:
    """Return the counts in words.

    Args:
        counts: from `count_patients`.
        pattern: that paths were searched with.
    """
    if not counts["patient_ids_from"]:
        return "no patient ids"
    parts = [_source_words(source, n, pattern) for source, n in counts["patient_ids_from"].items()]
    largest = counts["largest_patient"]
    has = _count(largest["n_images"], "image")
    return f"{', '.join(parts)}; the largest patient, {largest['patient_id']!r}, has {has}"


def _source_words(source: str, n: Mapping[str, int], pattern: str) -> str:
    words = source
    if source in (WORDS["name"], WORDS["path"]):
        words += f" with {pattern_words(pattern)}"
    return f"{_count(n['n_patient_ids'], 'patient id')} of {_count(n['n_images'], 'image')} from {words}"


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def pattern_words(pattern: str) -> str:
    """Return a pattern as text names it, with the known collection that it belongs to, if any."""
    collections = {known: name for name, known in KNOWN.items()}
    return f"{pattern!r}" + (f", the pattern of {collections[pattern]}" if pattern in collections else "")
