import pandas as pd
import pytest

from data_checks import metrics
from tests.data_checks.conftest import Failed

NAN = float("nan")
ROWS = [("fold", 0), ("fold", 1), ("mean", None), ("pooled", None)]
WHOLE = pd.DataFrame(
    [
        {"scope": scope, "fold": fold, "class": "sick", "metric": metric, "value": value, "n": 10}
        for scope, fold in ROWS
        for metric, value in (("roc_auc", 0.9), ("true_positive", 7))
    ]
).assign(ci_low=0.0, ci_high=100.0, reason=None)
IS_AUC = WHOLE["metric"] == "roc_auc"
DAMAGE = {
    "none": (WHOLE, set()),
    "a row is doubled": (pd.concat([WHOLE, WHOLE.iloc[[0]]], ignore_index=True), {("row", "critical")}),
    "a rate above 1": (WHOLE.assign(value=WHOLE["value"].mask(IS_AUC, 1.5)), {("rate", "critical")}),
    "a negative count": (WHOLE.assign(value=WHOLE["value"].mask(~IS_AUC, -1), ci_low=-9), {("count", "critical")}),
    "undefined without a reason": (WHOLE.assign(value=WHOLE["value"].mask(IS_AUC)), {("explained", "critical")}),
    "undefined with a reason": (WHOLE.assign(value=WHOLE["value"].mask(IS_AUC), reason="one class"), set()),
    "a fold is missing": (WHOLE[WHOLE["fold"] != 1], {("fold_or_scope", "critical")}),
    "outside its interval": (WHOLE.assign(ci_low=WHOLE["value"] + 0.01), {("in_interval", "warning")}),
    "of no image": (WHOLE.assign(n=0), {("n", "critical")}),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_damaged_metrics_are_found(what: str, failed: Failed) -> None:
    table, expected = DAMAGE[what]
    rows = metrics.describe(table.astype({"fold": "Int64"}))
    assert failed(metrics.TABLE, rows, metrics.expectations(2)) == expected
