import pandas as pd
import pytest

from data_checks import drift
from data_checks.tolerances import Tolerances
from tests.data_checks.conftest import Failed

NAN = float("nan")
WHOLE = pd.DataFrame(
    [
        ("acquisition", "width", 50, 0.1, 0.5),
        ("features", "novelty", 50, 0.1, 0.5),
        ("scores", "probability_sick", 50, 0.1, 0.5),
        ("novel_images", "share", 50, 0.0, NAN),
        ("accuracy", "estimated", 50, -0.02, NAN),
    ],
    columns=["group", "statistic", "n", "effect", "p_value"],
)


def test_each_statistic_is_named_in_words() -> None:
    names = drift.describe(WHOLE, Tolerances())["name"].tolist()
    assert names == ["width", "novelty", "probability of sick", "share of novel images", "loss of estimated accuracy"]


def changed(group: str, **values: float) -> pd.DataFrame:
    table = WHOLE.copy()
    for column, value in values.items():
        table.loc[table["group"] == group, column] = value
    return table


CASES = {
    "none": (WHOLE, set()),
    "many novel images": (changed("novel_images", effect=0.2), {("novel_share", "critical")}),
    "a large and significant distance": (
        changed("acquisition", effect=0.5, p_value=1e-6),
        {("differs", "warning")},
    ),
    "large but by chance": (changed("acquisition", effect=0.5, p_value=0.01), set()),
    "significant but small": (changed("scores", effect=0.2, p_value=1e-9), set()),
    "an accuracy that falls": (changed("accuracy", effect=-0.3), {("accuracy_loss", "warning")}),
    "an accuracy that rises": (changed("accuracy", effect=0.3), set()),
    "few images": (WHOLE.assign(n=5, effect=WHOLE["effect"] * 0 + 0.09), {("too_few", "info")}),
    "few images that differ": (
        changed("scores", effect=0.9, p_value=1e-9).assign(n=5),
        {("too_few", "info")},
    ),
}


@pytest.mark.parametrize("what", CASES)
def test_drift_is_found_with_its_severity(what: str, failed: Failed) -> None:
    table, expected = CASES[what]
    limit = Tolerances()
    assert failed(drift.TABLE, drift.describe(table, limit), drift.expectations(limit)) == expected
