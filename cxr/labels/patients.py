"""Patients that a table names, as keyed hashes: the ids themselves are kept nowhere.

A word that stands for nobody (`unknown`, `anonymous`) counts as missing, as in DICOM files. A number does not, not even
0, because tables number patients.
"""

import hashlib
import hmac
from collections.abc import Callable

import pandas as pd

from cxr.errors import DataError
from cxr.images.dicom.patient import PLACEHOLDERS

PATIENT = "patient_id"
"""The column that this program's own tables have; where it stands, it holds patients even if each has one image."""
PREFIX = "table-"
LEAST = 10
"""A column with fewer ids may be right where each stands on one image."""


def require_patients_of_images(ids: pd.Series, images: pd.Series) -> None:
    """Raise DataError if each of a column's ids stands on one image.

    Args:
        ids: of each row of the tables, before any is left out; the series has the column's name.
        images: what the rows say of their images.
    """
    n_images = images.groupby(ids).nunique()
    if ids.name != PATIENT and len(n_images) >= LEAST and n_images.max() == 1:
        raise DataError(
            f"every patient id stands on one image: is {str(ids.name)!r} the id of an image? Give the --patient-column "
            "that holds patients, or leave it out: without ids each image counts as a patient, as the certificate says."
        )


def hash_patients(ids: pd.Series, key: Callable[[], bytes]) -> pd.Series:
    """Return the keyed hash of each image's patient; missing where nobody is named.

    Args:
        ids: one for each image.
        key: returns the key, as `cxr.images.dicom.patient.patient_key` does.
    """
    known = ids.where(~ids.str.casefold().str.replace(r"\W|_", "", regex=True).isin(PLACEHOLDERS))
    secret = key()
    return known.map({value: _hash(value, secret) for value in known.dropna().unique()}).astype("str")


def _hash(value: str, key: bytes) -> str:
    return PREFIX + hmac.new(key, value.encode(), hashlib.sha256).hexdigest()[:16]
