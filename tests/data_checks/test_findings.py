import pandas as pd
import pytest

from data_checks import findings
from data_checks.tolerances import Tolerances
from tests.data_checks.conftest import Failed

N_FOLDS = 2
FOLDS = pd.DataFrame(
    {
        "group_id": [f"g{k}" for k in range(16)],
        "fold": [k % 2 for k in range(16)],
        "finding_A": pd.array([k % 4 < 2 for k in range(16)], "boolean"),
        "finding_B": pd.array([k < 8 for k in range(16)], "boolean"),
    }
)
IN_FOLD_1 = FOLDS["fold"] == 1
A = FOLDS["finding_A"]
DAMAGE = {
    "none": (FOLDS, set()),
    "present in one patient alone": (FOLDS.assign(finding_A=FOLDS.index == 0), {"groups_with", "share_gap"}),
    "absent in one patient alone": (FOLDS.assign(finding_A=FOLDS.index > 0), {"groups_without", "share_gap"}),
    "many images of one patient": (FOLDS.assign(group_id=FOLDS["group_id"].mask(A, "g0")), {"groups_with"}),
    "known in one fold alone": (FOLDS.assign(finding_A=A.mask(IN_FOLD_1)), {"n_known"}),
    "in one fold alone": (FOLDS.assign(finding_A=IN_FOLD_1), {"share_gap"}),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_findings_that_folds_can_hardly_hold_are_warnings(what: str, failed: Failed) -> None:
    folds, expected = DAMAGE[what]
    rows = findings.describe(folds.astype({"finding_A": "boolean"}))
    found = failed(findings.TABLE, rows, findings.expectations(N_FOLDS, Tolerances()))
    assert found == {(column, "warning") for column in expected}


def test_each_finding_has_a_row_in_each_fold_with_its_distance_from_the_share_in_all_folds() -> None:
    unknown = FOLDS.assign(finding_B=FOLDS["finding_B"].mask(FOLDS.index >= 12))
    rows = findings.describe(unknown).set_index(["finding", "fold"])
    assert rows.index.tolist() == [("A", 0), ("B", 0), ("A", 1), ("B", 1)]
    assert rows["n_known"].tolist() == [8, 6, 8, 6]
    assert rows["share_gap"].tolist() == pytest.approx([0, 0, 0, 0])
    assert rows.loc[("B", 0), ["groups_with", "groups_without"]].tolist() == [8, 4]
    parted = findings.describe(FOLDS.assign(finding_A=pd.array(IN_FOLD_1 & (FOLDS.index > 8), "boolean")))
    of_a = parted[parted["finding"] == "A"].set_index("fold")["share_gap"]
    assert of_a.to_dict() == {0: 4 / 16, 1: 4 / 8 - 4 / 16}
