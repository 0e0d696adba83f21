"""Which patient an image is of: the PatientID of its DICOM file, or what a pattern finds in its path.

A pattern that somebody has given comes before DICOM's PatientID, which in some collections (RSNA) is an image's id.
Where none was given, PatientID comes first, and the path is searched with the pattern of the known collection whose
names most files have.

Tools that remove names from DICOM files often write one word into all of them. Taken as a patient's id it would put all
images into one group, and no folds could be made. So an id that stands for nobody counts as missing, and the path is
asked: a known placeholder, as `cxr.images.dicom.patient` finds it, and an id that most of the images share.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from cxr.config import KAGGLE_PATIENT
from cxr.images.dicom.patient import PLACEHOLDER

PatientFrom = Literal["name", "path", "dicom", "table"]
"""Where a patient's id stands: in the file's name, elsewhere in its path, in DICOM's PatientID, or in a table."""

KNOWN = {
    "the Kaggle set": KAGGLE_PATIENT,
    "Kermany's Mendeley v3": r"^(?:BACTERIA|VIRUS|NORMAL)-(\d+)-\d+\.",
    "NIH ChestX-ray14": r"^(000\d{5})_\d{3}\.",
    "CheXpert": r"(?:^|/)(patient\d{5})/study\d+/",
    "MIMIC-CXR": r"(?:^|/)(p\d{8})/s\d{8}/",
}
"""Patterns of known collections. Kermany's numbers count within a disease or across them: the bare number is safe under
both readings, as in the Kaggle set. NIH's begin with three zeros, which dates do not."""
SHARED = "its PatientID is a placeholder that many images share"
"""The remark on an image whose PatientID counts as missing."""
SHARED_LEAST = 20
"""An id of fewer images is a patient's, whatever their share: small sets may be of few patients."""


@dataclass(frozen=True)
class PatientPattern:
    """The pattern that finds patients in the paths of a data set."""

    pattern: str
    """A regular expression; its first group is the patient id."""
    place: Literal["name", "path"]
    """The path is searched where the pattern is in no file name."""
    collection: str | None = None
    """The known collection whose names it fits."""
    is_given: bool = False
    """Whether somebody asked for it, so that it comes before DICOM's PatientID."""

    def find(self, path: str) -> str | None:
        """Return the patient id in a path; None where there is none."""
        match = re.search(self.pattern, _searched(path, self.place))
        return (match.group(1) or None) if match else None


@dataclass(frozen=True)
class Patient:
    """What is known of the patient of an image."""

    patient_id: str | None
    found_in: PatientFrom | None = None
    """None where there is no id."""
    remark: str | None = None
    """Why PatientID is not used, if it is not."""


def choose_pattern(paths: Sequence[str], pattern: str) -> PatientPattern:
    """Return the pattern to search paths with: the one given, or the known one that finds an id in most of them.

    Args:
        paths: of the images, relative to the data's root.
        pattern: as in the config; the default stands for any of the known ones.
    """
    if pattern != KAGGLE_PATIENT:
        return PatientPattern(pattern, _place(pattern, paths), is_given=True)
    found = {name: PatientPattern(known, _place(known, paths), name) for name, known in KNOWN.items()}
    n_found = {name: sum(known.find(path) is not None for path in paths) for name, known in found.items()}
    best = max(found, key=lambda name: n_found[name])  # the first of equals, which is the default
    return found[best] if n_found[best] else PatientPattern(KAGGLE_PATIENT, "name")


def elsewhere(pattern: str) -> str:
    """Return the pattern for another data set: one that was given stays, a known one is looked for again."""
    return KAGGLE_PATIENT if pattern in KNOWN.values() else pattern


def find_patients(paths: Sequence[str], dicom_ids: Sequence[str | None], pattern: PatientPattern) -> list[Patient]:
    """Return the patient of each image.

    Args:
        paths: of the images, relative to the data's root.
        dicom_ids: the keyed hash of each file's PatientID, or PLACEHOLDER; None where there is none.
        pattern: from `choose_pattern`.
    """
    shared = _shared_by_most(dicom_ids)
    return [_patient(path, dicom_id, shared, pattern) for path, dicom_id in zip(paths, dicom_ids, strict=True)]


def _patient(path: str, dicom_id: str | None, shared: set[str], pattern: PatientPattern) -> Patient:
    in_path = pattern.find(path)
    if in_path is not None and pattern.is_given:
        return Patient(in_path, pattern.place)
    if dicom_id is not None and dicom_id not in shared:
        return Patient(dicom_id, "dicom")
    return Patient(in_path, pattern.place if in_path is not None else None, SHARED if dicom_id is not None else None)


def _place(pattern: str, paths: Sequence[str]) -> Literal["name", "path"]:
    return "name" if any(re.search(pattern, _searched(path, "name")) for path in paths) else "path"


def _searched(path: str, place: Literal["name", "path"]) -> str:
    return path.rpartition("/")[2] if place == "name" else path


def _shared_by_most(dicom_ids: Sequence[str | None]) -> set[str]:
    """Return the ids that stand for nobody: the placeholder, and one that more than half of the images share."""
    n_images = Counter(dicom_id for dicom_id in dicom_ids if dicom_id is not None)
    least = max(SHARED_LEAST, n_images.total() / 2 + 0.5)
    return {PLACEHOLDER} | {dicom_id for dicom_id, n in n_images.items() if n >= least}
