import numpy as np
import pandas as pd
import pytest

from cxr.classes import Classes
from data_checks import predictions
from data_checks.tolerances import Tolerances
from tests.data_checks.conftest import Failed

CLASSES = Classes(("well", "sick"))
IMAGES = pd.DataFrame({"path": list("abcd"), "fold": [0, 0, 1, 1]})
WHOLE = IMAGES.assign(
    group_id=["g1", "g1", "g2", "g3"],
    label=["well", "sick", "well", "sick"],
    logit_well=[1.0, 0.0, 2.0, -1.0],
    logit_sick=0.0,
    probability_well=[0.75, 0.5, 0.875, 0.25],
    probability_sick=[0.25, 0.5, 0.125, 0.75],
)
DAMAGE = {
    "none": (WHOLE, set()),
    "an image is missing": (WHOLE.iloc[1:], {"fold"}),
    "an image is doubled": (pd.concat([WHOLE, WHOLE.iloc[[0]]], ignore_index=True), {"path"}),
    "predicted by a fold that trained on it": (WHOLE.assign(fold=[1, 0, 1, 1]), {"held_out", "folds_of_group"}),
    "a logit is infinite": (WHOLE.assign(logit_sick=np.inf), {"finite"}),
    "probabilities do not sum to 1": (WHOLE.assign(probability_sick=0.4), {"sum_error"}),
    "a probability is negative": (
        WHOLE.assign(probability_well=-0.5, probability_sick=1.5),
        {"least_probability", "greatest_probability"},
    ),
    "a label is unknown": (WHOLE.assign(label="other"), {"label"}),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_damaged_predictions_are_critical(what: str, failed: Failed) -> None:
    table, columns = DAMAGE[what]
    rows = predictions.describe(table, IMAGES, CLASSES)
    suite = predictions.expectations(CLASSES, 2, Tolerances())
    assert failed(predictions.TABLE, rows, suite) == {(column, "critical") for column in columns}
