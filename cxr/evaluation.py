"""From the folds' held-out predictions to the tables that everything published is read from.

`metrics/predictions.parquet` is the out-of-fold table: each used film once, judged by the fold that did
not see it. The other tables are computed from it alone.

Two ways to sum up folds differ and are both shown with an interval: the mean over folds (and the standard
deviation between folds), and the pooled value over all films at once. Pooled ROC-AUC ranks scores of different
models against each other, so it lies below the mean where folds disagree in scale. All intervals come from the
same replicates of the patients; they hold for the networks at hand, and what training on other patients would
change is not in them.

Source: Bengio & Grandvalet, No unbiased estimator of the variance of k-fold cross-validation, JMLR 2004.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
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
        store.write_table(folder.predictions, predictions)
        tabulate(folder, predictions, run.classes)
        log.info("tables: %s", folder.metrics.parent)


def tabulate(folder: RunFolder, predictions: pd.DataFrame, classes: list[str]) -> None:
    """Write metrics, summary and confusion tables of the out-of-fold table."""
    metrics = metrics_table(predictions, classes)
    store.write_table(folder.metrics, metrics)
    store.write_table(folder.summary, summary_table(metrics))
    store.write_table(folder.confusion, confusion_table(predictions, classes))


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

    Columns: scope (`fold`, `mean` of the folds, or `pooled`), fold (missing but in a fold), class (the positive one
    of two; of more each one, `macro`, or missing for the whole table), metric, value, ci_low and ci_high (95 %, from
    a bootstrap over groups; NaN for counts, which have no mean), n (films), reason (why a value is NaN). Of two
    classes every metric is the positive one's.
    """
    group = predictions["group_id"].factorize()[0].astype(np.int64)
    drawn, fold = draw_groups(int(group.max()) + 1), predictions["fold"].to_numpy()
    folds = {k: _appraise(predictions[fold == k], classes, group[fold == k], drawn) for k in np.unique(fold).tolist()}
    rows = [row for k, films in folds.items() for row in films.rows("fold", k)]
    rows += _mean_of(folds).rows("mean", None)
    rows += _appraise(predictions, classes, group, drawn).rows("pooled", None)
    return pd.DataFrame(rows).astype({"fold": "Int32", "class": "str", "reason": "str"})


@dataclass(frozen=True)
class _Appraised:
    """Metrics by class, and each of them in every replicate, shape (R,)."""

    values: Mapping[str | None, Mapping[str, Value]]
    replicates: Mapping[str | None, Mapping[str, NDArray[np.float64]]]
    n_films: int

    def rows(self, scope: str, fold: int | None) -> list[dict[str, Any]]:
        """Return the rows of a scope."""
        rows: list[dict[str, Any]] = []
        for name, values in self.values.items():
            for metric, (value, reason) in values.items():
                low, high = percentile_interval(self.replicates[name].get(metric, np.empty(0)))
                row = {"scope": scope, "fold": fold, "class": name, "metric": metric, "value": value}
                rows.append(row | {"ci_low": low, "ci_high": high, "n": self.n_films, "reason": reason})
        return rows


def _appraise(
    films: pd.DataFrame, classes: list[str], group: NDArray[np.int64], drawn_RG: NDArray[np.float64]
) -> _Appraised:
    replicates = replicates_by_class(films, classes, group, drawn_RG)
    return _Appraised(metrics_by_class(films, classes), replicates, len(films))


def _mean_of(folds: Mapping[int, _Appraised]) -> _Appraised:
    """Return the mean of each metric over folds; NaN where one fold's is: the mean of the others would flatter."""
    values: dict[str | None, dict[str, Value]] = {}
    replicates: dict[str | None, dict[str, NDArray[np.float64]]] = {}
    for name, of_first in next(iter(folds.values())).values.items():
        names = [metric for metric in of_first if metric not in COUNTS]
        values[name] = {m: _mean_value({k: f.values[name][m] for k, f in folds.items()}) for m in names}
        replicates[name] = {m: np.mean([f.replicates[name][m] for f in folds.values()], axis=0) for m in names}
    return _Appraised(values, replicates, sum(films.n_films for films in folds.values()))


def _mean_value(by_fold: Mapping[int, Value]) -> Value:
    reasons = [f"fold {fold}: {value.reason}" for fold, value in by_fold.items() if value.reason]
    return Value(float(np.mean([value.value for value in by_fold.values()])), "; ".join(reasons) or None)


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


def confusion_table(predictions: pd.DataFrame, classes: list[str]) -> pd.DataFrame:
    """Return the pooled confusion counts: label, called, n; pairs that never occur are there with 0."""
    probability = predictions[[f"probability_{name}" for name in classes]].to_numpy()
    counts = pd.crosstab(predictions["label"], call_films(probability, classes))
    counts = counts.reindex(index=classes, columns=classes, fill_value=0).rename_axis(index="label", columns="called")
    return counts.reset_index().melt("label", value_name="n")


def headline(folder: RunFolder) -> pd.DataFrame:
    """Return the run's main metrics in percent.

    Columns: metric, mean, sd, mean_ci_low, mean_ci_high, pooled, ci_low, ci_high, starting_project (or NaN).

    Of more than two classes these are the overall and the macro-averaged metrics, which the starting
    project's figures do not speak of. A column that came after the run's tables were written is NaN.
    """
    summary = store.read_table(folder.summary)
    positive = store.read_json(folder.config)["positive"]
    rows = summary[summary["class"].isna() | (summary["class"] == (positive or "macro"))]
    rows = rows[~rows["metric"].isin(COUNTS)].reset_index(drop=True)
    reference = rows["metric"].map(STARTING_PROJECT) if positive else float("nan")
    columns = ["mean", "sd", "mean_ci_low", "mean_ci_high", "pooled", "ci_low", "ci_high"]
    percent = rows.reindex(columns=columns).assign(starting_project=reference) * 100
    names = rows["metric"].where(rows["class"] != "macro", "macro " + rows["metric"])
    return percent.assign(metric=names)[["metric", *percent.columns]]


def list_runs(experiments: Path) -> pd.DataFrame:
    """Return one row per run that has begun, oldest first.

    Columns: run, begun_at, trainable, size, epochs, folds (finished of all), films, and the pooled metrics that the
    starting project gives, in percent (macro-averaged of more than two classes), NaN where the run has no tables.
    """
    rows: list[dict[str, Any]] = []
    for path in sorted(store.located(experiments).glob("[!.]*")):
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
