"""Clusters of images acquired alike, in a run whose folds leave them out: what they are, and how the model does there.

Networks, calibration and thresholds come from the other clusters, so the figures of a cluster are those of images
unlike the ones that the model was made from. The worst cluster says more about the next site than their mean.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr.dataset.clusters import NUMBERS, measure_acquisition
from cxr.evaluation.analyses import NO_THRESHOLD, operating_points
from cxr.evaluation.out_of_fold import OutOfFold
from cxr.metrics.estimates import estimate

RATES = ("sensitivity", "specificity")
KEY = ["class", "operating_point", "metric"]


def cluster_table(images: OutOfFold, manifest: pd.DataFrame) -> pd.DataFrame:
    """Return in what each cluster differs from the others: one row per cluster, class and measure.

    Columns: fold (which leaves the cluster out), class, n and n_groups (of the class in the cluster), measure, value
    and elsewhere (the median, of a category the share, in the cluster and in the others), effect (Kolmogorov-Smirnov
    distance of the two, 0 to 1), rank (by effect, from 1). Only images of the class are compared; measures that are
    the same in all of them are left out.

    Args:
        images: of the run.
        manifest: the run's table of images.
    """
    known = manifest.drop_duplicates("path").set_index("path").loc[images.predictions["path"]].reset_index()
    measures = measure_acquisition(known)
    rows: list[dict[str, Any]] = []
    for fold in np.unique(images.fold):
        for k, label in enumerate(images.classes):
            inside, elsewhere = (
                (images.target == k) & (images.fold == fold),
                (images.target == k) & (images.fold != fold),
            )
            n_groups = len(np.unique(images.group[inside]))
            where = {"fold": fold, "class": label, "n": inside.sum(), "n_groups": n_groups}
            rows += [where | row for row in _differences(measures[inside], measures[elsewhere])]
    columns = ["fold", "class", "n", "n_groups", "measure", "value", "elsewhere", "effect", "rank"]
    return pd.DataFrame(rows, columns=columns).astype({"fold": "int32"})


def _differences(inside: pd.DataFrame, elsewhere: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a row per measure that varies, the largest effect first."""
    both = pd.concat([inside, elsewhere])
    rows = [_difference(inside[name], elsewhere[name]) for name in both.columns[both.nunique() > 1]]
    rows.sort(key=lambda row: -row["effect"])
    return [row | {"rank": rank} for rank, row in enumerate(rows, start=1)]


def _difference(inside: pd.Series, elsewhere: pd.Series) -> dict[str, Any]:
    from scipy.stats import ks_2samp  # takes a second, and only runs of clusters need it

    test: Any = ks_2samp(inside, elsewhere, method="asymp")
    values = {"value": _middle(inside), "elsewhere": _middle(elsewhere)}
    return {"measure": inside.name, **values, "effect": float(test.statistic)}


def _middle(values: pd.Series) -> float:
    return float(values.median() if values.name in NUMBERS else values.mean())


def cluster_metrics_table(images: OutOfFold) -> pd.DataFrame:
    """Return how the model does on each cluster: one row per cluster, class, operating point and metric.

    Columns: fold (which leaves the cluster out), class (that is evaluated against the rest), n, n_positive,
    operating_point and threshold (chosen on the other clusters, on calibrated probabilities; missing for ROC-AUC and
    for more than two classes, whose most probable is predicted), metric (`roc_auc`, `sensitivity`, `specificity`),
    value, ci_low, ci_high, reason, is_worst (no cluster has a lower value).
    """
    rows: list[dict[str, Any]] = []
    points = operating_points(images)
    for name, truth, column in images.one_vs_rest():
        for k, fold in enumerate(np.unique(images.fold)):
            inside = images.fold == fold
            at_points = {point.name: (float(point.thresholds[k]), point.predicted[inside]) for point in points}
            where = {"fold": fold, "class": name, "n": inside.sum(), "n_positive": truth[inside].sum()}
            rows += [where | row for row in _metrics(images, truth, column, inside, at_points)]
    columns = ["fold", "class", "n", "n_positive", "operating_point", "threshold", "metric", "value"]
    table = pd.DataFrame(rows, columns=[*columns, "ci_low", "ci_high", "reason"])
    worst = table.groupby(KEY, dropna=False)["value"].transform("min")
    types = {"fold": "int32", "operating_point": "str", "reason": "str"}
    return table.assign(is_worst=table["value"] == worst).astype(types)


def _metrics(
    images: OutOfFold,
    truth: NDArray[np.bool_],
    column: int,
    inside: NDArray[np.bool_],
    at_points: Mapping[str, tuple[float, NDArray[np.bool_]]],
) -> Iterator[dict[str, Any]]:
    """Yield a row per operating point and metric of one cluster and class.

    Args:
        images: of the run.
        truth: shape (n,), whether the image belongs to the class.
        column: of the class.
        inside: shape (n,), whether the image is in the cluster.
        at_points: by operating point its threshold, and whether each image of the cluster is predicted positive there.
    """
    replicates = images.replicates.part(inside)
    score = images.probability[inside]
    most_probable = estimate(truth[inside], score.argmax(axis=1) == column, score[:, column], replicates)
    without_point = {"operating_point": None, "threshold": np.nan}
    metrics = ("roc_auc",) if images.is_binary else ("roc_auc", *RATES)
    yield from (without_point | row for row in most_probable.rows(metrics))
    for name, (threshold, predicted) in at_points.items():
        estimates = estimate(truth[inside], predicted, score[:, column], replicates)
        estimates = estimates.undefined(NO_THRESHOLD) if np.isnan(threshold) else estimates
        yield from ({"operating_point": name, "threshold": threshold} | row for row in estimates.rows(RATES))
