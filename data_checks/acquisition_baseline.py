"""The suite of `checks/acquisition_baseline.parquet`. Grain: one row per set of acquisition features and metric."""

from typing import TYPE_CHECKING

import pandas as pd

from cxr.wording import percent
from data_checks.expect import between
from data_checks.suite import Table
from data_checks.tolerances import Tolerances

if TYPE_CHECKING:
    from great_expectations.expectations.expectation import Expectation

TABLE = Table("acquisition_baseline", "one row per set of acquisition features and metric", ("features", "metric"))


def describe(acquisition_baseline: pd.DataFrame) -> pd.DataFrame:
    """Return the table with `ranking`: the ROC-AUC, mirrored at 0.5 so that it also counts if it ranks backwards."""
    auc = acquisition_baseline["value"].where(acquisition_baseline["metric"] == "roc_auc")
    return acquisition_baseline.assign(ranking=pd.concat([auc, 1 - auc], axis=1).max(axis=1))


def expectations(limit: Tolerances) -> list["Expectation"]:
    """Return the suite."""
    most = limit.acquisition_auc
    sentence = (
        f"Acquisition alone (size, brightness, mode) ranks the classes with a ROC-AUC of at most {percent(most)}; "
        "above that, a model may be reading the scanner instead of the lung."
    )
    return [between("ranking", "warning", sentence, most=most)]
