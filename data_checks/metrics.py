"""The suite of `metrics/metrics.parquet`. Grain: one row per scope, fold, class and metric."""

from typing import TYPE_CHECKING

import pandas as pd

from cxr.metrics.classification import COUNTS
from data_checks.expect import all_of, between, one_of, present, unique
from data_checks.suite import Table

if TYPE_CHECKING:
    from great_expectations.expectations.expectation import Expectation

TABLE = Table("metrics", "one row per scope, fold, class and metric", ("scope", "fold", "class", "metric"))


def describe(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return the table with the columns that the expectations ask about."""
    counts = metrics["metric"].isin(COUNTS)
    undefined = metrics["value"].isna()
    inside = metrics["value"].between(metrics["ci_low"], metrics["ci_high"])
    return metrics.assign(
        row=metrics[list(TABLE.row_name)].astype("string").fillna("–").agg(" ".join, axis=1),
        rate=metrics["value"].where(~counts),
        count=metrics["value"].where(counts),
        explained=metrics["reason"].where(undefined, "defined"),
        in_interval=inside.where(metrics["ci_low"].notna() & ~undefined).astype("object"),
        fold_or_scope=metrics["fold"].astype("string").fillna(metrics["scope"].astype("string")),
    )


def expectations(n_folds: int, *, least_images: int = 1) -> list["Expectation"]:
    """Return the suite.

    Args:
        n_folds: of the run.
        least_images: that a metric is computed from; 0 where a finding may be unknown in a whole fold.
    """
    scopes = ["mean", "pooled", *map(str, range(n_folds))]
    evaluated = "There are metrics of every fold, of their mean and of the pooled images."
    inside = "Every metric is inside its interval; a small fold may be an exception."
    return [
        unique("row", "critical", "Every metric has exactly one row per scope, fold and class."),
        between("rate", "critical", "Rates are between 0 and 1.", least=0, most=1),
        between("count", "critical", "Counts are not negative.", least=0),
        present("explained", "critical", "Every undefined metric has a reason."),
        all_of("fold_or_scope", "critical", evaluated, scopes),
        one_of("in_interval", "warning", inside, [True]),
        between("n", "critical", "Every metric is computed from at least one image.", least=least_images),
    ]
