"""The suite of `near_duplicates.parquet`. Grain: one row per pair of images with similar perceptual hashes."""

from typing import TYPE_CHECKING

import pandas as pd

from data_checks.expect import absent, one_of, unique
from data_checks.suite import Table

if TYPE_CHECKING:
    from great_expectations.expectations.expectation import Expectation

TABLE = Table("near_duplicates", "one row per pair of images with similar perceptual hashes", ("path_a", "path_b"))


def describe(near_duplicates: pd.DataFrame, manifest: pd.DataFrame) -> pd.DataFrame:
    """Return the pairs with the columns that the expectations ask about.

    Labels and patients are compared only where the pixels have verified the pair.
    """
    verified = near_duplicates["verified"].astype(bool)
    patient = manifest.drop_duplicates("path").set_index("path")["patient_id"]
    patient_a, patient_b = near_duplicates["path_a"].map(patient), near_duplicates["path_b"].map(patient)
    return near_duplicates.assign(
        pair=near_duplicates["path_a"] + " and " + near_duplicates["path_b"],
        one_label=(near_duplicates["label_a"] == near_duplicates["label_b"]).where(verified).astype("object"),
        one_patient=((patient_a == patient_b) | (patient_a.isna() & patient_b.isna())).where(verified).astype("object"),
        verified_correlation=near_duplicates["correlation"].where(verified),
    )


def expectations() -> list["Expectation"]:
    """Return the suite."""
    label = "Copies of an image have one label: remove or rename the wrong copy."
    patient = "Copies of an image belong to one patient; if they do not, they are kept in one fold."
    return [
        unique("pair", "critical", "Every pair has exactly one row."),
        one_of("one_label", "critical", label, [True]),
        one_of("one_patient", "warning", patient, [True]),
        absent("verified_correlation", "info", "No image is a re-encoded, resized or cropped copy of another."),
    ]
