"""The tables of a finished run, from which every published number is read.

`metrics/predictions.parquet` is the out-of-fold table: each used image once, predicted by the fold that did not see it.
All other tables are computed from it, except the drift reference, which measures the images.

Two summaries of the folds differ, and both have an interval: the mean over folds (with the standard deviation between
folds), and the pooled value over all images at once. Pooled ROC-AUC ranks scores of different networks against each
other, so it is lower than the mean where folds differ in scale. All intervals come from the same replicates of the
patients. They hold for these networks and do not include what training on other patients would change.

Source: Bengio & Grandvalet, No unbiased estimator of the variance of k-fold cross-validation, JMLR 2004.
"""

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from cxr.classes import MACRO, Classes, Findings
from cxr.errors import DataError, RunError
from cxr.evaluation import analyses
from cxr.evaluation.clusters import cluster_metrics_table, cluster_table
from cxr.evaluation.drift_reference import drift_reference_table, measure_images
from cxr.evaluation.findings import (
    FindingsOutOfFold,
    count_present,
    estimates_by_finding,
    for_each_finding,
    known_counts,
    out_of_fold_of,
)
from cxr.evaluation.out_of_fold import OutOfFold, predicted_images
from cxr.evaluation.outside.comparison import outside_tests, write_comparison
from cxr.evaluation.referral import referral_table
from cxr.evaluation.subgroups import label_suspects, most_confident_errors, subgroup_table, with_subgroups
from cxr.metrics.bootstrap import Replicates
from cxr.metrics.estimates import Estimates, average_estimates, estimate_by_class
from cxr.storage import events, files, verified
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
    "referral",
    "most_confident_errors",
    "label_suspects",
    "drift_reference",
)
"""Tables of every finished run, besides the out-of-fold table that they are computed from."""
OF_CLUSTERS = ("clusters", "cluster_metrics")
"""Tables of a run whose folds leave out clusters, besides TABLES."""
N_SQUARES = 4096
"""Images that are measured at a time."""


def evaluate(run: Run) -> None:
    """Write the out-of-fold table from the folds' predictions, every table that `table_names` names, and comparisons.

    Tests outside cross-validation that were made before are compared with the new tables.

    Raises:
        RunError: a fold is not complete.
        DamagedError: predictions of a fold, or of such a test, are missing or were changed.
    """
    with events.stage(run.folder.events, "evaluate") as stage:
        require_complete(run)
        folder = run.folder
        files.sweep(folder.predictions.parent)
        parts = [verified.read_table(run.folder.fold(fold).predictions) for fold in range(run.config.folds)]
        predictions = pd.concat(parts).sort_values("path", ignore_index=True)
        stage.n_images = len(predictions)
        verified.write_table(folder.predictions, predictions)
        write_tables(run, predictions)
        for test in outside_tests(folder).values():
            if verified.exists(test.metrics):  # not where its opening was ended halfway
                write_comparison(run, test)
        log.info("tables: %s", folder.metrics.parent)


def write_tables(run: Run, predictions: pd.DataFrame) -> None:
    """Write every table that `table_names` names, computed from the out-of-fold table."""
    manifest = verified.read_table(run.folder.manifest)
    tables = tables_of_predictions(out_of_fold_of(predictions, run.outputs), with_subgroups(run.folder, manifest))
    tables["drift_reference"] = drift_reference_table(_measured(run, predictions, manifest))
    if run.config.leave_out == "cluster":
        images = OutOfFold(predictions, run.classes)
        tables |= {"clusters": cluster_table(images, manifest), "cluster_metrics": cluster_metrics_table(images)}
    for name in table_names(run):
        verified.write_table(run.folder.table(name), tables[name])


def tables_of_predictions(images: OutOfFold | FindingsOutOfFold, manifest: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the tables that are computed from predictions alone, of classes or of each finding, by name.

    Args:
        images: the predictions; without folds, metrics are pooled alone.
        manifest: the images, with what divides them into subgroups.
    """
    outputs = images.findings if isinstance(images, FindingsOutOfFold) else images.classes
    of_scope = metrics_table if images.has_folds else pooled_metrics_table
    metrics = of_scope(images.predictions, outputs)
    tables = {"metrics": metrics, "summary": summary_of(images.predictions, outputs, metrics)}
    if isinstance(images, FindingsOutOfFold):
        return tables | for_each_finding(images, lambda part: tables_of_classes(part, metrics, manifest))
    return tables | tables_of_classes(images, metrics, manifest)


def tables_of_classes(images: OutOfFold, metrics: pd.DataFrame, manifest: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the tables that are computed from classes: those of a run with classes, or of one finding.

    Args:
        images: the predictions.
        metrics: of the same predictions, as `metrics_table` returns them.
        manifest: the images, with what divides them into subgroups.
    """
    return {
        "confusion": confusion_table(images.predictions, images.classes),
        "auc": analyses.auc_table(images, metrics),
        "calibration": analyses.calibration_table(images),
        "operating_points": analyses.operating_point_table(images),
        "predictive_values": analyses.predictive_value_table(images),
        "subgroups": subgroup_table(images, manifest),
        "referral": referral_table(images, manifest),
        "most_confident_errors": most_confident_errors(images),
        "label_suspects": label_suspects(images),
    }


def _measured(run: Run, images: pd.DataFrame, manifest: pd.DataFrame) -> pd.DataFrame:
    """Return the images' measures; without grey levels, and with a warning, where images are gone."""
    parts = (images.iloc[first : first + N_SQUARES] for first in range(0, len(images), N_SQUARES))
    try:
        return measure_images(images, manifest, (square for part in parts for square in run.squares(part)))
    except DataError as error:
        log.warning("the drift reference has no grey levels: %s", error)
        return measure_images(images, manifest, None)


def table_names(run: Run) -> tuple[str, ...]:
    """Return the names of a finished run's tables, besides the out-of-fold table."""
    return (*TABLES, *OF_CLUSTERS) if run.config.leave_out == "cluster" else TABLES


def read_tables(run: Run) -> dict[str, pd.DataFrame]:
    """Return every table of a finished run that `table_names` names.

    Raises:
        RunError: one of them is missing.
    """
    folder = run.folder
    names = table_names(run)
    missing = [name for name in ("predictions", *names) if not verified.exists(folder.table(name))]
    if missing:
        raise RunError(
            f"run {folder.run_id!r} lacks the table{'s' if len(missing) > 1 else ''} {', '.join(missing)}: "
            f"type `cxr evaluate {folder.run_id}`, which writes every table."
        )
    return {name: verified.read_table(folder.table(name)) for name in names}


def metrics_table(predictions: pd.DataFrame, outputs: Classes | Findings) -> pd.DataFrame:
    """Return one row per scope, fold, class and metric.

    Columns: scope (`fold`, `mean` over folds, or `pooled`), fold (missing except in scope `fold`), class (as in
    `estimates_by_class`), metric, value, ci_low and ci_high (95%, from a bootstrap over groups; NaN for counts, which
    have no mean), n (images; of a finding, those where it is known), reason (why a value is NaN).

    Args:
        predictions: columns group_id, fold, label or finding_<name>, and probability_<class>.
        outputs: in output order.
    """
    replicates = Replicates.of(predictions["group_id"])
    fold = predictions["fold"].to_numpy()
    parts = {k: predictions[fold == k] for k in np.unique(fold).tolist()}
    folds = {k: estimates_by_class(part, outputs, replicates.part(fold == k)) for k, part in parts.items()}
    rows = [row for k, by_class in folds.items() for row in _rows(by_class, "fold", k, _counts(parts[k], outputs))]
    mean = {
        name: average_estimates({f"fold {k}": estimates[name] for k, estimates in folds.items()})
        for name in next(iter(folds.values()))
    }
    rows += _rows(mean, "mean", None, _counts(predictions, outputs))
    return _as_metrics(rows + _pooled_rows(predictions, outputs, replicates))


def pooled_metrics_table(predictions: pd.DataFrame, outputs: Classes | Findings) -> pd.DataFrame:
    """Return the rows of `metrics_table` in scope `pooled`, for predictions without folds."""
    return _as_metrics(_pooled_rows(predictions, outputs, Replicates.of(predictions["group_id"])))


def _pooled_rows(
    predictions: pd.DataFrame, outputs: Classes | Findings, replicates: Replicates
) -> list[dict[str, Any]]:
    by_class = estimates_by_class(predictions, outputs, replicates)
    return _rows(by_class, "pooled", None, _counts(predictions, outputs))


def _as_metrics(rows: list[dict[str, Any]]) -> pd.DataFrame:
    columns = ["scope", "fold", "class", "metric", "value", "ci_low", "ci_high", "n", "reason"]
    return pd.DataFrame(rows, columns=columns).astype({"fold": "Int32", "class": "str", "reason": "str"})


def estimates_by_class(
    predictions: pd.DataFrame, outputs: Classes | Findings, replicates: Replicates
) -> dict[str | None, Estimates]:
    """Return every metric of predictions, by class as in `estimate_by_class`, or as in `estimates_by_finding`.

    Args:
        predictions: columns label or finding_<name>, and probability_<class>.
        outputs: in output order.
        replicates: of the same images.
    """
    if isinstance(outputs, Findings):
        return estimates_by_finding(predictions, outputs, replicates)
    return estimate_by_class(*predicted_images(predictions, outputs), outputs, replicates)


def _counts(images: pd.DataFrame, outputs: Classes | Findings) -> Mapping[str | None, int]:
    """Return how many images the metrics of each class are computed from."""
    if isinstance(outputs, Findings):
        return known_counts(images, outputs)
    return dict.fromkeys([*outputs, MACRO, None], len(images))


def _rows(
    by_class: Mapping[str | None, Estimates], scope: str, fold: int | None, n: Mapping[str | None, int]
) -> list[dict[str, Any]]:
    return [
        {"scope": scope, "fold": fold, "n": n[name], "class": name} | row
        for name, estimates in by_class.items()
        for row in estimates.rows(estimates.values)
    ]


def summary_of(predictions: pd.DataFrame, outputs: Classes | Findings, metrics: pd.DataFrame) -> pd.DataFrame:
    """Return the summary of predictions, as `summary_table` does; of findings, with how many images each has.

    Columns that findings get: n_known and n_present, the images in which a finding is known and present.
    """
    summary = summary_table(metrics)
    if not isinstance(outputs, Findings):
        return summary
    counted = summary.merge(count_present(predictions, outputs), on="class", how="left")
    return counted.astype({"n_known": "Int64", "n_present": "Int64"})


def summary_table(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return one row per class and metric.

    Columns: class, metric, mean and sd (n - 1) over folds, mean_ci_low and mean_ci_high, ci_low and ci_high (of the
    pooled value), pooled. A metric that is NaN in a fold has a NaN mean: an average over the others would flatter it.
    Without folds, all but the pooled value and its interval is NaN.

    Args:
        metrics: as `metrics_table` returns them.
    """
    keys = ["class", "metric"]
    bounds = [*keys, "ci_low", "ci_high"]
    pooled = metrics.loc[metrics["scope"] == "pooled", [*bounds, "value"]].rename(columns={"value": "pooled"})
    of_folds = metrics[metrics["scope"] == "fold"]
    if of_folds.empty:
        return pooled.reindex(
            columns=[*keys, "mean", "sd", "mean_ci_low", "mean_ci_high", "ci_low", "ci_high", "pooled"]
        )
    by_fold = of_folds.groupby(keys, sort=False, dropna=False)["value"]
    spread = by_fold.agg(mean=lambda v: v.mean(skipna=False), sd=lambda v: v.std(skipna=False)).reset_index()
    mean = metrics.loc[metrics["scope"] == "mean", bounds]
    mean = mean.rename(columns={"ci_low": "mean_ci_low", "ci_high": "mean_ci_high"})
    return spread.merge(mean, on=keys, how="left").merge(pooled, on=keys, how="left")


def confusion_table(predictions: pd.DataFrame, classes: Classes) -> pd.DataFrame:
    """Return the pooled confusion counts: label, predicted, n; pairs that never occur have 0."""
    label, predicted, _ = predicted_images(predictions, classes)
    counts = pd.crosstab(pd.Series(label, name="label"), pd.Series(predicted, name="predicted"))
    counts = counts.reindex(index=classes, columns=classes, fill_value=0)
    counts = counts.rename_axis(index="label", columns="predicted")
    return counts.reset_index().melt("label", value_name="n")
