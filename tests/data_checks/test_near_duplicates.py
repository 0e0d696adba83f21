import pandas as pd
import pytest

from data_checks import near_duplicates
from tests.data_checks.conftest import Failed

MANIFEST = pd.DataFrame({"path": list("abcd"), "patient_id": ["p1", "p1", "p2", None]})
PAIR = pd.DataFrame(
    {"path_a": ["a"], "path_b": ["b"], "label_a": ["sick"], "label_b": ["sick"], "verified": True, "correlation": 0.99}
)
CASES = {
    "a candidate that pixels do not confirm": (PAIR.assign(label_b="well", path_b="c", verified=False), set()),
    "a copy": (PAIR, {("verified_correlation", "info")}),
    "a copy with another label": (
        PAIR.assign(label_b="well"),
        {("one_label", "critical"), ("verified_correlation", "info")},
    ),
    "a copy under another patient": (
        PAIR.assign(path_b="c"),
        {("one_patient", "warning"), ("verified_correlation", "info")},
    ),
    "a copy without a patient": (
        PAIR.assign(path_b="d"),
        {("one_patient", "warning"), ("verified_correlation", "info")},
    ),
    "a pair in two rows": (
        pd.concat([PAIR, PAIR], ignore_index=True).assign(verified=False),
        {("pair", "critical")},
    ),
}


@pytest.mark.parametrize("what", CASES)
def test_copies_are_found_with_their_severity(what: str, failed: Failed) -> None:
    table, expected = CASES[what]
    rows = near_duplicates.describe(table, MANIFEST)
    assert failed(near_duplicates.TABLE, rows, near_duplicates.expectations()) == expected
