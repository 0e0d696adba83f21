"""The suite of `metrics/metrics.parquet`. Grain: one row per scope, fold, class and metric."""

from typing import TYPE_CHECKING

import pandas as pd

from cxr.metrics.classification import COUNTS
from data_checks.expect import all_of, between, one_of, present, unique

if TYPE_CHECKING:
    from great_expectations.expectations.expectation import Expectation

GRAIN = "one row per scope, fold, class and metric"
NAMES = ["scope", "fold", "class", "metric"]


def describe(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return the table beside what its expectations need."""
    counts = metrics["metric"].isin(COUNTS)
    undefined = metrics["value"].isna()
    inside = metrics["value"].between(metrics["ci_low"], metrics["ci_high"])
    return metrics.assign(
        row=metrics[NAMES].astype("string").fillna("–").agg(" ".join, axis=1),
        rate=metrics["value"].where(~counts),
        count=metrics["value"].where(counts),
        explained=metrics["reason"].where(undefined, "defined"),
        in_interval=inside.where(metrics["ci_low"].notna() & ~undefined).astype("object"),
        fold_or_scope=metrics["fold"].astype("string").fillna(metrics["scope"].astype("string")),
    )


def expectations(n_folds: int) -> list["Expectation"]:
    """Return the suite."""
    scopes = ["mean", "pooled", *map(str, range(n_folds))]
    return [
        unique("row", "critical", "Every metric stands in one row of its scope."),
        between("rate", "critical", "Rates lie between 0 and 1.", least=0, most=1),
        between("count", "critical", "Counts are 0 or more.", least=0),
        present("explained", "critical", "An undefined metric has a reason."),
        all_of("fold_or_scope", "critical", "Every fold, their mean and the pooled images are judged.", scopes),
        one_of(
            "in_interval", "warning", "A metric lies inside its interval; a small fold may be an exception.", [True]
        ),
        between("n", "critical", "Every metric is of an image or more.", least=1),
    ]
