"""The suite of `metrics/predictions.parquet`. Grain: one row per used image, predicted out of fold."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cxr.classes import Classes, Findings
from data_checks.expect import all_of, between, one_of, present, unique
from data_checks.suite import Table
from data_checks.tolerances import Tolerances

if TYPE_CHECKING:
    from great_expectations.expectations.expectation import Expectation

TABLE = Table("predictions", "one row per used image, predicted out of fold", ("path", "fold"))


def describe(predictions: pd.DataFrame, images: pd.DataFrame, outputs: Classes | Findings) -> pd.DataFrame:
    """Return one row per image in either table, with the columns that the expectations ask about.

    Args:
        predictions: the out-of-fold table.
        images: the used images and the folds that hold them out; columns path, fold.
        outputs: the names of the classes or findings, in output order.
    """
    scores = predictions[[*outputs.logit_columns, *outputs.probability_columns]].to_numpy()
    probability = predictions[outputs.probability_columns].to_numpy()
    rows = predictions.assign(
        least_probability=probability.min(axis=1),
        greatest_probability=probability.max(axis=1),
        sum_error=np.abs(probability.sum(axis=1) - 1),
        finite=np.logical_and.reduce(np.isfinite(scores), axis=1),
    )
    expected = images[["path", "fold"]].rename(columns={"fold": "held_out_fold"})
    rows = rows.merge(expected, on="path", how="outer")
    same_fold = (rows["fold"] == rows["held_out_fold"]).where(rows["fold"].notna()).astype("object")
    return rows.assign(held_out=same_fold, folds_of_group=rows.groupby("group_id")["fold"].transform("nunique"))


def expectations(outputs: Classes | Findings, n_folds: int, limit: Tolerances) -> list["Expectation"]:
    """Return the suite."""
    return [
        unique("path", "critical", "Every image is predicted once."),
        present("fold", "critical", "Every used image is predicted."),
        one_of("held_out", "critical", "Every image is predicted by the fold that held it out.", [True]),
        one_of("finite", "critical", "Logits and probabilities are finite numbers.", [True]),
        between("least_probability", "critical", "No probability is below 0.", least=0),
        between("greatest_probability", "critical", "No probability is above 1.", most=1),
        *(_of_classes(outputs, limit) if isinstance(outputs, Classes) else ()),
        all_of("fold", "critical", f"All {n_folds} folds are present.", range(n_folds)),
        between("folds_of_group", "critical", "No group of images is predicted by two folds.", most=1),
    ]


def _of_classes(classes: Classes, limit: Tolerances) -> list["Expectation"]:
    return [
        between("sum_error", "critical", "The probabilities of an image sum to 1.", most=limit.probability_sum_error),
        one_of("label", "critical", "Every label is one of the run's classes.", classes),
    ]
