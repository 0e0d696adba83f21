"""From the folds' held-out predictions to the tables that everything published is read from.

`metrics/predictions.parquet` is the out-of-fold table: each used image once, judged by the fold that did
not see it. The other tables are computed from it alone.

Two ways to sum up folds differ and are both shown with an interval: the mean over folds (and the standard
deviation between folds), and the pooled value over all images at once. Pooled ROC-AUC ranks scores of different
models against each other, so it lies below the mean where folds disagree in scale. All intervals come from the
same replicates of the patients; they hold for the networks at hand, and what training on other patients would
change is not in them.

Source: Bengio & Grandvalet, No unbiased estimator of the variance of k-fold cross-validation, JMLR 2004.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr.classes import Classes
from cxr.errors import DamagedError, DataError, RunError
from cxr.evaluation import analyses
from cxr.evaluation.drift_reference import drift_reference_table, measure_images
from cxr.evaluation.out_of_fold import OutOfFold
from cxr.evaluation.subgroups import most_confident_errors, subgroup_table
from cxr.metrics.bootstrap import (
    average_replicates,
    draw_groups,
    percentile_interval,
    replicate_accuracy,
    replicate_metrics,
)
from cxr.metrics.calibration import predict_labels
from cxr.metrics.classification import COUNTS, Value, binary_metrics, multiclass_metrics
from cxr.storage import events, files
from cxr.storage.run_folder import RunFolder
from cxr.training.run import Run, require_complete

log = logging.getLogger(__name__)


TABLES = (
    "metrics",
    "summary",
    "confusion",
    "auc",
    "calibration",
    "operating_points",
    "predictive_values",
    "subgroups",
    "most_confident_errors",
    "drift_reference",
)
"""Tables of every finished run, besides the out-of-fold table that they are computed from."""
N_SQUARES = 4096
"""Images that are measured at a time."""


def evaluate(run: Run) -> None:
    """Write the out-of-fold table from the folds' predictions, and every table in TABLES.

    Raises:
        RunError: a fold is not complete.
    """
    with events.stage(run.folder.events, "evaluate") as stage:
        require_complete(run)
        folder = run.folder
        files.sweep(folder.predictions.parent)
        parts = [_read_predictions(run, fold) for fold in range(run.config.folds)]
        predictions = pd.concat(parts).sort_values("path", ignore_index=True)
        stage.n_images = len(predictions)
        files.write_table(folder.predictions, predictions)
        write_tables(run, predictions)
        log.info("tables: %s", folder.metrics.parent)


def write_tables(run: Run, predictions: pd.DataFrame) -> None:
    """Write every table in TABLES, computed from the out-of-fold table."""
    manifest = files.read_table(run.folder.manifest)
    images = OutOfFold(predictions, run.classes)
    metrics = metrics_table(predictions, run.classes)
    tables = {
        "metrics": metrics,
        "summary": summary_table(metrics),
        "confusion": confusion_table(predictions, run.classes),
        "auc": analyses.auc_table(images, metrics),
        "calibration": analyses.calibration_table(images),
        "operating_points": analyses.operating_point_table(images),
        "predictive_values": analyses.predictive_value_table(images),
        "subgroups": subgroup_table(images, manifest),
        "most_confident_errors": most_confident_errors(images),
        "drift_reference": drift_reference_table(_measured(run, predictions, manifest)),
    }
    for name in TABLES:
        files.write_table(run.folder.table(name), tables[name])


def _measured(run: Run, images: pd.DataFrame, manifest: pd.DataFrame) -> pd.DataFrame:
    """Return the images' measures; without grey levels, and with a warning, where images are gone."""
    parts = (images.iloc[first : first + N_SQUARES] for first in range(0, len(images), N_SQUARES))
    try:
        return measure_images(images, manifest, (square for part in parts for square in run.squares(part)))
    except DataError as error:
        log.warning("the drift reference has no grey levels: %s", error)
        return measure_images(images, manifest, None)


def read_tables(folder: RunFolder) -> dict[str, pd.DataFrame]:
    """Return every table in TABLES of a finished run.

    Raises:
        RunError: one of them is missing.
    """
    missing = [name for name in ("predictions", *TABLES) if not folder.table(name).exists()]
    if missing:
        raise RunError(
            f"run {folder.run_id!r} lacks the table{'s' if len(missing) > 1 else ''} {', '.join(missing)}: "
            f"type `cxr evaluate {folder.run_id}`, which writes every table."
        )
    return {name: files.read_table(folder.table(name)) for name in TABLES}


def _read_predictions(run: Run, fold: int) -> pd.DataFrame:
    try:
        return files.read_table(run.folder.fold(fold).predictions)
    except (DamagedError, FileNotFoundError) as error:
        raise RunError(
            f"the predictions of fold {fold} are missing or damaged: `cxr evaluate {run.folder.run_id}` makes them "
            "anew from the weights; nothing is trained."
        ) from error


def metrics_table(predictions: pd.DataFrame, classes: Classes) -> pd.DataFrame:
    """Return one row per scope, fold, class and metric.

    Columns: scope (`fold`, `mean` of the folds, or `pooled`), fold (missing but in a fold), class (the positive one
    of two; of more each one, `macro`, or missing for the whole table), metric, value, ci_low and ci_high (95 %, from
    a bootstrap over groups; NaN for counts, which have no mean), n (images), reason (why a value is NaN). Of two
    classes every metric is the positive one's.
    """
    group = predictions["group_id"].factorize()[0].astype(np.int64)
    drawn, fold = draw_groups(int(group.max()) + 1), predictions["fold"].to_numpy()
    folds = {k: _appraise(predictions[fold == k], classes, group[fold == k], drawn) for k in np.unique(fold).tolist()}
    rows = [row for k, images in folds.items() for row in images.rows("fold", k)]
    rows += _mean_of(folds).rows("mean", None)
    rows += _appraise(predictions, classes, group, drawn).rows("pooled", None)
    return pd.DataFrame(rows).astype({"fold": "Int32", "class": "str", "reason": "str"})


@dataclass(frozen=True)
class _Appraised:
    """Metrics by class, and each of them in every replicate, shape (R,)."""

    values: Mapping[str | None, Mapping[str, Value]]
    replicates: Mapping[str | None, Mapping[str, NDArray[np.float64]]]
    n_images: int

    def rows(self, scope: str, fold: int | None) -> list[dict[str, Any]]:
        """Return the rows of a scope."""
        rows: list[dict[str, Any]] = []
        for name, values in self.values.items():
            for metric, (value, reason) in values.items():
                low, high = percentile_interval(self.replicates[name].get(metric, np.empty(0)))
                row = {"scope": scope, "fold": fold, "class": name, "metric": metric, "value": value}
                rows.append(row | {"ci_low": low, "ci_high": high, "n": self.n_images, "reason": reason})
        return rows


def _appraise(
    images: pd.DataFrame, classes: Classes, group: NDArray[np.int64], drawn_RG: NDArray[np.float64]
) -> _Appraised:
    replicates = replicates_by_class(images, classes, group, drawn_RG)
    return _Appraised(metrics_by_class(images, classes), replicates, len(images))


def _mean_of(folds: Mapping[int, _Appraised]) -> _Appraised:
    """Return the mean of each metric over folds; NaN where one fold's is: the mean of the others would flatter."""
    values: dict[str | None, dict[str, Value]] = {}
    replicates: dict[str | None, dict[str, NDArray[np.float64]]] = {}
    for name, of_first in next(iter(folds.values())).values.items():
        names = [metric for metric in of_first if metric not in COUNTS]
        values[name] = {m: _mean_value({k: f.values[name][m] for k, f in folds.items()}) for m in names}
        replicates[name] = {m: np.mean([f.replicates[name][m] for f in folds.values()], axis=0) for m in names}
    return _Appraised(values, replicates, sum(images.n_images for images in folds.values()))


def _mean_value(by_fold: Mapping[int, Value]) -> Value:
    reasons = [f"fold {fold}: {value.reason}" for fold, value in by_fold.items() if value.reason]
    return Value(float(np.mean([value.value for value in by_fold.values()])), "; ".join(reasons) or None)


def judged(images: pd.DataFrame, classes: Classes) -> tuple[NDArray[np.str_], NDArray[np.str_], NDArray[np.float64]]:
    """Return each image's class, the class it is called, and its probabilities, shape (n, n_classes)."""
    probability = images[[f"probability_{name}" for name in classes]].to_numpy()
    return images["label"].to_numpy(dtype=str), predict_labels(probability, classes), probability


def metrics_by_class(images: pd.DataFrame, classes: Classes) -> dict[str | None, dict[str, Value]]:
    """Return each metric by class: of two the positive one, of more each, `macro`, and None for the whole table."""
    truth, predicted, probability = judged(images, classes)
    if len(classes) > 2:
        return multiclass_metrics(truth, predicted, probability, classes)
    positive = classes[1]
    return {positive: binary_metrics(truth == positive, predicted == positive, probability[:, 1])}


def replicates_by_class(
    images: pd.DataFrame, classes: Classes, group: NDArray[np.int64], drawn_RG: NDArray[np.float64]
) -> dict[str | None, dict[str, NDArray[np.float64]]]:
    """Return each metric in every replicate, shape (R,), by class as in `metrics_by_class`.

    Args:
        images: predictions.
        classes: in the order of the model's outputs.
        group: shape (n,), index of the image's group.
        drawn_RG: how often each group is in each replicate.
    """
    truth, predicted, probability = judged(images, classes)
    replicates: dict[str | None, dict[str, NDArray[np.float64]]] = {
        name: replicate_metrics(truth == name, predicted == name, probability[:, column], group, drawn_RG)
        for column, name in enumerate(classes)
        if len(classes) > 2 or column == 1
    }
    if len(classes) > 2:
        macro = average_replicates(list(replicates.values()))
        overall = {"accuracy": replicate_accuracy(truth == predicted, group, drawn_RG)}
        replicates |= {"macro": macro, None: overall | {"balanced_accuracy": macro["sensitivity"]}}
    return replicates


def summary_table(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return one row per class and metric.

    Columns: class, metric, mean and sd (n - 1) over folds, mean_ci_low and mean_ci_high, pooled, ci_low and ci_high
    (of the pooled value). A metric that is NaN in a fold has a NaN mean: an average over the others would flatter it.
    """
    keys = ["class", "metric"]
    by_fold = metrics[metrics["scope"] == "fold"].groupby(keys, sort=False, dropna=False)["value"]
    spread = by_fold.agg(mean=lambda v: v.mean(skipna=False), sd=lambda v: v.std(skipna=False)).reset_index()
    bounds = [*keys, "ci_low", "ci_high"]
    of_mean = metrics.loc[metrics["scope"] == "mean", bounds]
    pooled = metrics.loc[metrics["scope"] == "pooled", [*bounds, "value"]]
    table = spread.merge(
        of_mean.rename(columns=lambda c: f"mean_{c}" if c.startswith("ci") else c), on=keys, how="left"
    )
    return table.merge(pooled.rename(columns={"value": "pooled"}), on=keys, how="left")


def confusion_table(predictions: pd.DataFrame, classes: Classes) -> pd.DataFrame:
    """Return the pooled confusion counts: label, called, n; pairs that never occur are there with 0."""
    probability = predictions[[f"probability_{name}" for name in classes]].to_numpy()
    counts = pd.crosstab(predictions["label"], predict_labels(probability, classes))
    counts = counts.reindex(index=classes, columns=classes, fill_value=0).rename_axis(
        index="label", columns="predicted"
    )
    return counts.reset_index().melt("label", value_name="n")
