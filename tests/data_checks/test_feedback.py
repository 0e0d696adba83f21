import pandas as pd
import pytest

from cxr.classes import Classes
from data_checks import feedback
from data_checks.tolerances import Tolerances
from tests.data_checks.conftest import Failed

CLASSES = Classes(("NORMAL", "PNEUMONIA"))
N = 20
WHOLE = pd.DataFrame(
    {
        "entry": 1,
        "image_id": [f"{k:064x}" for k in range(N)],
        "label": [CLASSES[k % 2] for k in range(N)],
        "patient_id": [f"table-{k:016x}" for k in range(N)],
        "given_by": "ada",
        "given_at": pd.Timestamp("2026-11-20T00:00Z"),
        "source": "labels.csv",
        "source_sha256": "0" * 64,
    }
)
SCORED = pd.DataFrame({"image_id": WHOLE["image_id"], "scored_at": pd.Timestamp("2026-11-02T00:00Z")})
FIRST = WHOLE.index == 0


def corrected(n: int, **facts: object) -> pd.DataFrame:
    """The ledger with a later entry that says the opposite of n images."""
    later = WHOLE.head(n).assign(entry=2, given_at=pd.Timestamp("2026-11-21T00:00Z"), label=WHOLE["label"].shift(-1))
    return pd.concat([WHOLE, later.assign(**facts)], ignore_index=True)


DAMAGE = {
    "none": (WHOLE, set()),
    "a few corrections": (corrected(2), set()),
    "many corrections": (corrected(3), {("is_corrected", "warning")}),
    "a correction of before": (
        corrected(1, given_at=pd.Timestamp("2026-11-19T00:00Z")),
        {("is_in_order", "warning")},
    ),
    "an image twice in an entry": (pd.concat([WHOLE, WHOLE.head(1)], ignore_index=True), {("key", "critical")}),
    "a label that is no class": (WHOLE.assign(label=WHOLE["label"].mask(FIRST, "COVID")), {("label", "critical")}),
    "a path in the place of a hash": (
        WHOLE.assign(image_id=WHOLE["image_id"].mask(FIRST, "monday/1.png")),
        {("image_id", "critical"), ("is_scored", "warning")},
    ),
    "by nobody": (WHOLE.assign(given_by=None), {("given_by", "critical")}),
    "without the hash of its table": (WHOLE.assign(source_sha256="labels.csv"), {("source_sha256", "critical")}),
    "one class alone": (WHOLE.assign(label="NORMAL"), {("current_label", "warning")}),
    "labelled before it was scored": (
        WHOLE.assign(given_at=pd.Timestamp("2026-11-01T00:00Z")),
        {("is_after_score", "warning")},
    ),
    "without patients": (WHOLE.assign(patient_id=None), {("has_patient", "info")}),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_damaged_labels_are_found(what: str, failed: Failed) -> None:
    ledger, expected = DAMAGE[what]
    rows = feedback.describe(ledger, SCORED)
    assert failed(feedback.TABLE, rows, feedback.expectations(CLASSES, Tolerances())) == expected
