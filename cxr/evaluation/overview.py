"""A finished run in a few numbers, and all runs in one table."""

from pathlib import Path
from typing import Any

import pandas as pd

from cxr.metrics.classification import COUNTS
from cxr.storage import files
from cxr.storage.run_folder import RunFolder

STARTING_PROJECT = {"accuracy": 0.915, "roc_auc": 0.975, "sensitivity": 0.911, "specificity": 0.924, "f1": 0.939}
"""ResNet-50, 5-fold cross-validation on the Kaggle set, as that project published them."""


def headline(folder: RunFolder) -> pd.DataFrame:
    """Return the run's main metrics in percent.

    Columns: metric, mean, sd, mean_ci_low, mean_ci_high, pooled, ci_low, ci_high, starting_project (or NaN).

    Of more than two classes these are the overall and the macro-averaged metrics, which the starting
    project's figures do not speak of. A column that came after the run's tables were written is NaN.
    """
    summary = files.read_table(folder.summary)
    positive = files.read_record(folder.config)["positive"]
    rows = summary[summary["class"].isna() | (summary["class"] == (positive or "macro"))]
    rows = rows[~rows["metric"].isin(COUNTS)].reset_index(drop=True)
    reference = rows["metric"].map(STARTING_PROJECT) if positive else float("nan")
    columns = ["mean", "sd", "mean_ci_low", "mean_ci_high", "pooled", "ci_low", "ci_high"]
    percent = rows.reindex(columns=columns).assign(starting_project=reference) * 100
    names = rows["metric"].where(rows["class"] != "macro", "macro " + rows["metric"])
    return percent.assign(metric=names)[["metric", *percent.columns]]


def list_runs(experiments: Path) -> pd.DataFrame:
    """Return one row per run that has begun, oldest first.

    Columns: run, begun_at, trainable, size, epochs, folds (finished of all), images, and the pooled metrics that the
    starting project gives, in percent (macro-averaged of more than two classes), NaN where the run has no tables.
    """
    rows: list[dict[str, Any]] = []
    for path in sorted(files.located(experiments).glob("[!.]*")):
        folder = RunFolder(path.resolve())
        if not folder.has_begun:
            continue
        record = files.read_record(folder.config)
        config, n_folds = record["config"], record["config"]["folds"]
        n_done = sum(folder.fold(fold).is_complete(record["config_hash"]) for fold in range(n_folds))
        metrics = headline(folder).set_index("metric")["pooled"].to_dict() if folder.summary.exists() else {}
        row = {"run": folder.run_id, "begun_at": record["begun_at"], "folds": f"{n_done} of {n_folds}"}
        row |= {name: config[name] for name in ("trainable", "size", "epochs")}
        row |= {str(name).removeprefix("macro "): value for name, value in metrics.items()}
        rows.append(row | {"images": record["images"]["used"]})
    columns = ["run", "begun_at", "trainable", "size", "epochs", "folds", "images", *STARTING_PROJECT]
    return pd.DataFrame(rows, columns=columns).sort_values("begun_at", ignore_index=True)
