"""The metrics of a test on images outside cross-validation, at the thresholds that were fitted inside."""

from typing import Any

import numpy as np
import pandas as pd

from cxr.classes import Classes
from cxr.errors import DataError
from cxr.evaluation.analyses import RATES
from cxr.evaluation.findings import FindingsOutOfFold, label_as_two_classes
from cxr.evaluation.out_of_fold import OutOfFold
from cxr.evaluation.tables import pooled_metrics_table
from cxr.metrics.bootstrap import Replicates
from cxr.metrics.estimates import estimate

METRICS = ("roc_auc", *RATES)
COLUMNS = ["operating_point", "threshold", "class", "metric", "value", "ci_low", "ci_high", "n", "reason"]
LIKELIEST = "likeliest"
"""The name of the most probable class as an operating point: more than two classes have no other."""


def outside_metrics(predictions: pd.DataFrame, inside: OutOfFold | FindingsOutOfFold) -> pd.DataFrame:
    """Return one row per operating point and metric; of several findings, for each where it is known.

    For more than two classes the metrics are those of the most probable class. Columns: operating_point, threshold,
    class, metric, value, ci_low, ci_high, n, reason.

    Args:
        predictions: columns group_id, label, probability_<name>, and finding_<name> of several findings.
        inside: the run's out-of-fold predictions, whose thresholds are applied unchanged.

    Raises:
        DataError: a finding is known in none of the images.
    """
    if isinstance(inside, FindingsOutOfFold):
        return _metrics_of_findings(predictions, inside)
    return _metrics_table(predictions, inside.classes, inside.thresholds)


def _metrics_of_findings(predictions: pd.DataFrame, inside: FindingsOutOfFold) -> pd.DataFrame:
    parts = []
    for name, thresholds in inside.thresholds.items():
        images = label_as_two_classes(predictions, inside.findings, name)
        if images.empty:
            raise DataError(f"finding {name!r} is known in no image of the test set: give one with labels of it.")
        classes = inside.findings.against_absence(name)
        absent, _ = classes.probability_columns
        scored = images.assign(**{absent: 1 - images[f"probability_{name}"]})
        parts.append(_metrics_table(scored, classes, thresholds))
    return pd.concat(parts, ignore_index=True)


def _metrics_table(predictions: pd.DataFrame, classes: Classes, thresholds: dict[Any, float]) -> pd.DataFrame:
    name = classes.positive
    if name is None:
        table = pooled_metrics_table(predictions, classes)
        table = table.assign(operating_point=LIKELIEST, threshold=np.nan)
        return table[COLUMNS].reset_index(drop=True)
    truth = (predictions["label"] == name).to_numpy()
    score = predictions[classes.probability_columns[1]].to_numpy()
    replicates = Replicates.of(predictions["group_id"])
    rows = []
    for point, threshold in thresholds.items():
        where = {"operating_point": point, "threshold": threshold, "class": name, "n": len(truth)}
        estimates = estimate(truth, score >= threshold, score, replicates)
        rows += [where | row for row in estimates.rows(METRICS)]
    return pd.DataFrame(rows, columns=COLUMNS).astype({"reason": "str"})
