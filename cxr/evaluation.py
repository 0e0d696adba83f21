"""From the folds' held-out predictions to the tables that everything published is read from.

`metrics/predictions.parquet` is the out-of-fold table: each used film once, judged by the fold that did
not see it. The other tables are computed from it alone.

Two ways to sum up folds differ and are both shown: the mean over folds (with the standard deviation
between folds), and the pooled value over all films at once. Pooled ROC-AUC ranks scores of different
models against each other, so it lies below the mean where folds disagree in scale.
"""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr import events, store
from cxr.calibration import call_films
from cxr.errors import DamagedError, RunError
from cxr.experiment import Experiment
from cxr.layout import RunFolder
from cxr.metrics import COUNTS, Value, binary_metrics, multiclass_metrics
from cxr.statistics import (
    average_replicates,
    draw_groups,
    percentile_interval,
    replicate_accuracy,
    replicate_metrics,
)

log = logging.getLogger(__name__)

STARTING_PROJECT = {"accuracy": 0.915, "roc_auc": 0.975, "sensitivity": 0.911, "specificity": 0.924, "f1": 0.939}
"""ResNet-50, 5-fold cross-validation on the Kaggle set, as that project published them."""


def evaluate(run: Experiment) -> None:
    """Write predictions, metrics, summary and confusion tables from the folds' predictions.

    Raises:
        RunError: a fold is not complete.
    """
    with events.stage(run.folder.events, "evaluate") as stage:
        require_complete(run)
        folder = run.folder
        store.sweep(folder.predictions.parent)
        parts = [_read_predictions(run, fold) for fold in range(run.config.folds)]
        predictions = pd.concat(parts).sort_values("path", ignore_index=True)
        stage.n_films = len(predictions)
        metrics = metrics_table(predictions, run.classes)
        store.write_table(folder.predictions, predictions)
        store.write_table(folder.metrics, metrics)
        store.write_table(folder.summary, summary_table(metrics))
        store.write_table(folder.confusion, confusion_table(predictions, run.classes))
        log.info("tables: %s", folder.metrics.parent)


def _read_predictions(run: Experiment, fold: int) -> pd.DataFrame:
    try:
        return store.read_table(run.folder.fold(fold).predictions)
    except (DamagedError, FileNotFoundError) as error:
        raise RunError(
            f"the predictions of fold {fold} are missing or damaged: `cxr evaluate {run.folder.run_id}` makes them "
            "anew from the weights; nothing is trained."
        ) from error


def require_complete(run: Experiment) -> None:
    """Raise RunError unless every fold has been trained to its end."""
    folder, n_folds = run.folder, run.config.folds
    unfinished = [str(fold) for fold in range(n_folds) if not folder.fold(fold).is_complete(run.config_hash)]
    if unfinished:
        raise RunError(
            f"run {folder.run_id!r} lacks fold {', '.join(unfinished)}: "
            f"type the run's `cxr train` again, or `cxr train-fold {folder.run_id} {unfinished[0]}`."
        )


def metrics_table(predictions: pd.DataFrame, classes: list[str]) -> pd.DataFrame:
    """Return one row per scope, fold, class and metric.

    Columns: scope (`fold` or `pooled`), fold (missing where pooled), class (the positive one of two; of
    more each one, `macro`, or missing for the whole table), metric, value, ci_low and ci_high (95 %, from
    a bootstrap over groups; NaN for counts), n (films), reason (why a value is NaN). Of two classes every
    metric is the positive one's.
    """
    rows: list[dict[str, Any]] = []
    for scope, fold, films in _scopes(predictions):
        intervals = _intervals_by_class(films, classes)
        for name, values in metrics_by_class(films, classes).items():
            for metric, (value, reason) in values.items():
                low, high = intervals[name].get(metric, (float("nan"), float("nan")))
                row = {"scope": scope, "fold": fold, "class": name, "metric": metric, "value": value}
                rows.append(row | {"ci_low": low, "ci_high": high, "n": len(films), "reason": reason})
    return pd.DataFrame(rows).astype({"fold": "Int32", "class": "str", "reason": "str"})


def _scopes(predictions: pd.DataFrame) -> Iterator[tuple[str, int | None, pd.DataFrame]]:
    for fold in sorted(predictions["fold"].unique().tolist()):
        yield "fold", fold, predictions[predictions["fold"] == fold]
    yield "pooled", None, predictions


def judged(films: pd.DataFrame, classes: list[str]) -> tuple[NDArray[np.str_], NDArray[np.str_], NDArray[np.float64]]:
    """Return each film's class, the class it is called, and its probabilities, shape (n, n_classes)."""
    probability = films[[f"probability_{name}" for name in classes]].to_numpy()
    return films["label"].to_numpy(dtype=str), call_films(probability, classes), probability


def metrics_by_class(films: pd.DataFrame, classes: list[str]) -> dict[str | None, dict[str, Value]]:
    """Return each metric by class: of two the positive one, of more each, `macro`, and None for the whole table."""
    truth, called, probability = judged(films, classes)
    if len(classes) > 2:
        return multiclass_metrics(truth, called, probability, classes)
    positive = classes[1]
    return {positive: binary_metrics(truth == positive, called == positive, probability[:, 1])}


def _intervals_by_class(films: pd.DataFrame, classes: list[str]) -> dict[str | None, dict[str, tuple[float, float]]]:
    group = films["group_id"].factorize()[0].astype(np.int64)
    replicates = replicates_by_class(films, classes, group, draw_groups(int(group.max()) + 1))
    return {
        name: {metric: percentile_interval(values) for metric, values in by_metric.items()}
        for name, by_metric in replicates.items()
    }


def replicates_by_class(
    films: pd.DataFrame, classes: list[str], group: NDArray[np.int64], drawn_RG: NDArray[np.float64]
) -> dict[str | None, dict[str, NDArray[np.float64]]]:
    """Return each metric in every replicate, shape (R,), by class as in `metrics_by_class`.

    Args:
        films: predictions.
        classes: in the order of the model's outputs.
        group: shape (n,), index of the film's group.
        drawn_RG: how often each group is in each replicate.
    """
    truth, called, probability = judged(films, classes)
    replicates: dict[str | None, dict[str, NDArray[np.float64]]] = {
        name: replicate_metrics(truth == name, called == name, probability[:, column], group, drawn_RG)
        for column, name in enumerate(classes)
        if len(classes) > 2 or column == 1
    }
    if len(classes) > 2:
        macro = average_replicates(list(replicates.values()))
        overall = {"accuracy": replicate_accuracy(truth == called, group, drawn_RG)}
        replicates |= {"macro": macro, None: overall | {"balanced_accuracy": macro["sensitivity"]}}
    return replicates


def summary_table(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return one row per class and metric: mean and sd (n - 1) over folds, pooled, ci_low, ci_high.

    A metric that is NaN in a fold has a NaN mean: an average over the other folds would flatter it.
    """
    keys = ["class", "metric"]
    by_fold = metrics[metrics["scope"] == "fold"].groupby(keys, sort=False, dropna=False)["value"]
    spread = by_fold.agg(mean=lambda v: v.mean(skipna=False), sd=lambda v: v.std(skipna=False)).reset_index()
    pooled = metrics.loc[metrics["scope"] == "pooled", [*keys, "value", "ci_low", "ci_high"]]
    return spread.merge(pooled.rename(columns={"value": "pooled"}), on=keys, how="left")


def confusion_table(predictions: pd.DataFrame, classes: list[str]) -> pd.DataFrame:
    """Return the pooled confusion counts: label, called, n; pairs that never occur are there with 0."""
    probability = predictions[[f"probability_{name}" for name in classes]].to_numpy()
    counts = pd.crosstab(predictions["label"], call_films(probability, classes))
    counts = counts.reindex(index=classes, columns=classes, fill_value=0).rename_axis(index="label", columns="called")
    return counts.reset_index().melt("label", value_name="n")


def headline(folder: RunFolder) -> pd.DataFrame:
    """Return the run's main metrics in percent: metric, mean, sd, pooled, its interval, starting_project (or NaN).

    Of more than two classes these are the overall and the macro-averaged metrics, which the starting
    project's figures do not speak of.
    """
    summary = store.read_table(folder.summary)
    positive = store.read_json(folder.config)["positive"]
    rows = summary[summary["class"].isna() | (summary["class"] == (positive or "macro"))]
    rows = rows[~rows["metric"].isin(COUNTS)].reset_index(drop=True)
    reference = rows["metric"].map(STARTING_PROJECT) if positive else float("nan")
    percent = rows[["mean", "sd", "pooled", "ci_low", "ci_high"]].assign(starting_project=reference) * 100
    names = rows["metric"].where(rows["class"] != "macro", "macro " + rows["metric"])
    return percent.assign(metric=names)[["metric", *percent.columns]]


def list_runs(experiments: Path) -> pd.DataFrame:
    """Return one row per run that has begun, oldest first.

    Columns: run, begun_at, trainable, size, epochs, folds (finished of all), films, and the pooled metrics that the
    starting project gives, in percent (macro-averaged of more than two classes), NaN where the run has no tables.
    """
    rows: list[dict[str, Any]] = []
    for path in sorted(experiments.glob("[!.]*")):
        folder = RunFolder(path.resolve())
        if not folder.has_begun:
            continue
        record = store.read_json(folder.config)
        config, n_folds = record["config"], record["config"]["folds"]
        n_done = sum(folder.fold(fold).is_complete(record["config_hash"]) for fold in range(n_folds))
        metrics = headline(folder).set_index("metric")["pooled"].to_dict() if folder.summary.exists() else {}
        row = {"run": folder.run_id, "begun_at": record["begun_at"], "folds": f"{n_done} of {n_folds}"}
        row |= {name: config[name] for name in ("trainable", "size", "epochs")}
        row |= {str(name).removeprefix("macro "): value for name, value in metrics.items()}
        rows.append(row | {"films": record["films"]["used"]})
    columns = ["run", "begun_at", "trainable", "size", "epochs", "folds", "films", *STARTING_PROJECT]
    return pd.DataFrame(rows, columns=columns).sort_values("begun_at", ignore_index=True)
