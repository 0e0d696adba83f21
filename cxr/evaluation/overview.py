"""A finished run in a few numbers, and all runs in one table."""

from pathlib import Path
from typing import Any

import pandas as pd

from cxr.classes import MACRO, Classes, Findings, outputs_of_record
from cxr.evaluation.published import is_kaggle
from cxr.metrics.classification import COUNTS
from cxr.storage import files, verified
from cxr.storage.run_folder import RunFolder
from cxr.training.run import Run

STARTING_PROJECT = {"accuracy": 0.915, "roc_auc": 0.975, "sensitivity": 0.911, "specificity": 0.924, "f1": 0.939}
"""Published metrics of the project that this one started from: ResNet-50, 5-fold cross-validation on the Kaggle set."""


def headline(folder: RunFolder, finding: str | None = None) -> pd.DataFrame:
    """Return the run's main metrics in percent.

    Columns: metric, mean, sd, mean_ci_low, mean_ci_high, pooled, ci_low, ci_high, starting_project (or NaN).

    For more than two classes these are the overall and the macro-averaged metrics, for several findings the
    macro-averaged ones. `starting_project` is NaN unless the run has two classes and the images of the Kaggle set. A
    column that was added after the run's tables were written is NaN.

    Args:
        folder: of a run that has its tables.
        finding: one of several findings, whose metrics are returned instead.
    """
    outputs = outputs_of_record(verified.read_record(folder.config))
    table = headline_of(verified.read_table(folder.summary), outputs, finding)
    if finding or not outputs.is_binary or not is_kaggle(verified.read_table(folder.manifest)["path"]):
        return table
    return table.assign(starting_project=table["metric"].map(STARTING_PROJECT) * 100)


def headline_of(summary: pd.DataFrame, classes: Classes | Findings, finding: str | None = None) -> pd.DataFrame:
    """Return the main metrics of a summary in percent, as `headline` does; `starting_project` is NaN.

    Args:
        summary: as `cxr.evaluation.tables.summary_of` returns it.
        classes: or findings, in output order.
        finding: one of several findings, whose metrics are returned instead.
    """
    rows = summary[summary["class"].isna() | (summary["class"] == (finding or classes.headline))]
    rows = rows[~rows["metric"].isin(COUNTS)].reset_index(drop=True)
    columns = ["mean", "sd", "mean_ci_low", "mean_ci_high", "pooled", "ci_low", "ci_high"]
    percent = rows.reindex(columns=columns).assign(starting_project=float("nan")) * 100
    names = rows["metric"].where(rows["class"] != MACRO, f"{MACRO} " + rows["metric"])
    return percent.assign(metric=names)[["metric", *percent.columns]]


def list_runs(experiments: Path) -> pd.DataFrame:
    """Return one row per run that has begun, oldest first.

    Columns: run, begun_at, trainable, size, epochs, folds (finished of all), leave_out (what each fold leaves out),
    images, and the pooled metrics in STARTING_PROJECT, in percent: macro-averaged for more than two classes, NaN where
    the run has no tables.
    """
    rows: list[dict[str, Any]] = []
    for path in sorted(files.located(experiments).glob("[!.]*")):
        folder = RunFolder(path.resolve())
        if not verified.exists(folder.config):
            continue
        record = verified.read_record(folder.config)
        config = record["config"]
        n_folds = config["folds"]
        run = Run.from_record(folder, record)
        n_done = sum(run.is_complete(fold) for fold in range(n_folds))
        metrics = _pooled(folder, run.outputs) if verified.exists(folder.summary) else {}
        row = {"run": folder.run_id, "begun_at": record["begun_at"], "folds": f"{n_done} of {n_folds}"}
        row |= {name: config[name] for name in ("trainable", "size", "epochs")} | {"leave_out": run.config.leave_out}
        row |= {str(name).removeprefix(f"{MACRO} "): value for name, value in metrics.items()}
        rows.append(row | {"images": record["images"]["used"]})
    columns = ["run", "begun_at", "trainable", "size", "epochs", "folds", "leave_out", "images", *STARTING_PROJECT]
    return pd.DataFrame(rows, columns=columns).sort_values("begun_at", ignore_index=True)


def _pooled(folder: RunFolder, outputs: Classes | Findings) -> dict[str, float]:
    """Return the pooled value of each main metric in percent."""
    table = headline_of(verified.read_table(folder.summary), outputs)
    return dict(zip(table["metric"], table["pooled"], strict=True))
