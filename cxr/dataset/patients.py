"""Which patient an image is of: the PatientID of its DICOM file, or what the pattern finds in its file name.

Tools that remove names from DICOM files often write one word into all of them. Taken as a patient's id it would put all
images into one group, and no folds could be made. So an id that stands for nobody counts as missing, and the file name
is asked: a known placeholder, as `cxr.images.dicom.patient` finds it, and an id that most of the images share.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from cxr.images.dicom.patient import PLACEHOLDER

SHARED = "its PatientID is a placeholder that many images share"
"""The remark on an image whose PatientID counts as missing."""
SHARED_LEAST = 20
"""An id of fewer images is a patient's, whatever their share: small sets may be of few patients."""


@dataclass(frozen=True)
class Patient:
    """What is known of the patient of an image."""

    patient_id: str | None
    remark: str | None = None
    """Why PatientID is not used, if it is not."""


def find_patients(names: Sequence[str], dicom_ids: Sequence[str | None], pattern: str) -> list[Patient]:
    """Return the patient of each image.

    Args:
        names: the files' names.
        dicom_ids: the keyed hash of each file's PatientID, or PLACEHOLDER; None where there is none.
        pattern: the regular expression whose first group, searched in the name, is the patient id.
    """
    shared = _shared_by_most(dicom_ids)
    return [_patient(name, dicom_id, shared, pattern) for name, dicom_id in zip(names, dicom_ids, strict=True)]


def _patient(name: str, dicom_id: str | None, shared: set[str], pattern: str) -> Patient:
    if dicom_id is not None and dicom_id not in shared:
        return Patient(dicom_id)
    match = re.search(pattern, name)
    return Patient(match.group(1) if match else None, SHARED if dicom_id is not None else None)


def _shared_by_most(dicom_ids: Sequence[str | None]) -> set[str]:
    """Return the ids that stand for nobody: the placeholder, and one that more than half of the images share."""
    n_images = Counter(dicom_id for dicom_id in dicom_ids if dicom_id is not None)
    least = max(SHARED_LEAST, n_images.total() / 2 + 0.5)
    return {PLACEHOLDER} | {dicom_id for dicom_id, n in n_images.items() if n >= least}
