import pandas as pd
import pytest

from data_checks import acquisition_baseline
from data_checks.tolerances import Tolerances
from tests.data_checks.conftest import Failed


@pytest.mark.parametrize(("auc", "is_suspicious"), [(0.5, False), (0.69, False), (0.71, True), (0.2, True)])
def test_acquisition_that_ranks_the_classes_in_either_direction_is_a_warning(
    auc: float, is_suspicious: bool, failed: Failed
) -> None:
    table = pd.DataFrame({"features": "width", "metric": ["roc_auc", "accuracy"], "value": [auc, 0.99]})
    rows = acquisition_baseline.describe(table)
    expected = {("ranking", "warning")} if is_suspicious else set()
    suite = acquisition_baseline.expectations(Tolerances())
    assert failed(acquisition_baseline.TABLE, rows, suite) == expected
