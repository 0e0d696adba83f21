"""The suite of `checks/acquisition_baseline.parquet`. Grain: one row per set of acquisition features and metric."""

from typing import TYPE_CHECKING

import pandas as pd

from data_checks.expect import between
from data_checks.tolerances import Tolerances

if TYPE_CHECKING:
    from great_expectations.expectations.expectation import Expectation

GRAIN = "one row per set of acquisition features and metric"
NAMES = ["features", "metric"]


def describe(acquisition_baseline: pd.DataFrame) -> pd.DataFrame:
    """Return the table beside how well the features rank the classes, in either direction."""
    auc = acquisition_baseline["value"].where(acquisition_baseline["metric"] == "roc_auc")
    return acquisition_baseline.assign(ranking=pd.concat([auc, 1 - auc], axis=1).max(axis=1))


def expectations(limit: Tolerances) -> list["Expectation"]:
    """Return the suite."""
    most = limit.acquisition_auc
    sentence = (
        f"Acquisition alone (size, brightness, mode) ranks the classes with a ROC-AUC of {most:g} at most; "
        "where it does better, a model may be reading the scanner instead of the lung."
    )
    return [between("ranking", "warning", sentence, most=most)]
