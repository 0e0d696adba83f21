import pandas as pd
import pytest

from cxr.dataset.patients import SHARED
from data_checks import manifest
from data_checks.tolerances import Tolerances
from tests.data_checks.conftest import Failed

N_FOLDS = 2
WHOLE = pd.DataFrame(
    {
        "image_id": [f"{k:064x}" for k in range(20)],
        "path": [f"train/{'AB'[k % 2]}/p{k}.jpeg" for k in range(20)],
        "label": ["A", "B"] * 10,
        "patient_id": [*(f"p{k}" for k in range(19)), "p17"],
        "status": "used",
        "reason": None,
        "width": 400,
        "height": 300,
        "mode": "L",
        "bits": 8,
        "contrast": 50.0,
        "dark_share": 0.1,
        "bright_share": 0.01,
        "chroma": 0.0,
    }
)
FIRST = WHOLE.index == 0


def first(**values: object) -> pd.DataFrame:
    """Change the first row."""
    return WHOLE.assign(**{column: WHOLE[column].mask(FIRST, value) for column, value in values.items()})


DAMAGE = {
    "none": (WHOLE, set()),
    "a file in two rows": (first(path="train/B/p1.jpeg"), {("path", "critical")}),
    "an id that is no hash": (first(image_id="abc"), {("image_id", "critical")}),
    "no label": (first(label=None), {("label", "critical")}),
    "an unknown status": (first(status="lost"), {("status", "critical")}),
    "identical bytes with two labels": (first(image_id=f"{1:064x}"), {("labels_of_these_bytes", "critical")}),
    "one file of twenty unreadable": (
        first(status="unreadable", reason="cut short"),
        {("unreadable_because", "warning")},
    ),
    "an unreadable file without a reason": (first(status="unreadable"), {("identified", "critical")}),
    "a blank image": (first(contrast=1.0), {("contrast", "critical"), ("contrast", "warning")}),
    "a black image": (first(dark_share=0.9), {("dark_share", "warning")}),
    "a white image": (first(bright_share=0.9), {("bright_share", "warning")}),
    "a photograph": (first(chroma=60.0), {("chroma", "warning")}),
    "a tiny image": (first(width=90, height=90), {("side", "warning")}),
    "a strip": (first(width=300, height=1200), {("elongation", "warning")}),
    "another bit depth": (first(bits=16), {("usual_bits", "warning")}),
    "an edited image": (first(mode="RGBA"), {("mode", "warning")}),
    "no patient": (first(patient_id=None), {("patient_id", "warning")}),
    "no patient with two images": (
        WHOLE.assign(patient_id=[f"p{k}" for k in range(20)]),
        {("images_of_largest_patient", "warning")},
    ),
    "no patient at all": (
        WHOLE.assign(patient_id=None),
        {("images_of_largest_patient", "warning"), ("patient_id", "warning")},
    ),
    "a placeholder for a patient": (
        first(patient_id=None, reason=SHARED),
        {("shared_patient_id", "warning"), ("patient_id", "warning")},
    ),
    "a placeholder, and the patient in the name": (first(reason=SHARED), {("shared_patient_id", "warning")}),
    "a copy": (first(status="duplicate", reason="copy of p2"), {("copy_of", "info")}),
    "a patient of two classes": (first(patient_id="p1"), {("classes_of_patient", "info")}),
    "an unusual path": (first(path="train/A/Röntgen.jpeg"), {("plain_path", "info")}),
    "one patient per class": (
        WHOLE.assign(patient_id=WHOLE["label"]),
        {("patients_of_class", "critical")},
    ),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_what_is_wrong_with_a_manifest_is_found_with_its_severity(what: str, failed: Failed) -> None:
    table, expected = DAMAGE[what]
    suite = manifest.expectations(N_FOLDS, ["A", "B"], ["train/A", "train/B"], Tolerances())
    assert failed(manifest.TABLE, manifest.describe(table), suite) == expected


def test_a_class_or_a_folder_without_images_is_found(failed: Failed) -> None:
    suite = manifest.expectations(N_FOLDS, ["A", "B", "C"], ["train/A", "train/B", "val/A"], Tolerances())
    rows = manifest.describe(WHOLE)
    assert failed(manifest.TABLE, rows, suite) == {("used_label", "critical"), ("folder", "warning")}


@pytest.mark.parametrize(("other", "n_labels"), [(False, 2), (None, 1), (True, 1)])
def test_an_unknown_finding_contradicts_no_copy_of_the_image(other: bool | None, n_labels: int) -> None:
    labels = pd.array([True, other] + [None] * 18, "boolean")
    images = WHOLE.assign(image_id=WHOLE["image_id"].mask(FIRST, WHOLE["image_id"][1]), finding_Mass=labels)
    assert manifest.describe(images)["labels_of_these_bytes"].max() == n_labels
