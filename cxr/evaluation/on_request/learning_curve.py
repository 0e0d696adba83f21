"""Learning curve: would more images help? A run is trained again on shares of its patients.

Each fold is trained on a share of its training patients and predicts the images that it holds out: the same images
that the run itself is evaluated on. A smaller share is part of each larger one. The number of epochs stays the same, so
a smaller share takes fewer steps. Training that was stopped resumes where it was.

Source: Viering & Loog, The shape of learning curves: a review, IEEE TPAMI 2023.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from cxr.errors import ConfigError
from cxr.evaluation.tables import metrics_table, summary_table
from cxr.storage import verified
from cxr.training.run import Run, require_complete
from cxr.training.trainer import train_fold

log = logging.getLogger(__name__)

SHARES = (0.25, 0.5)
METRICS = ("roc_auc", "sensitivity", "specificity", "accuracy")


def learning_curve(run: Run, shares: Sequence[float] = SHARES, *, device: str = "cpu") -> pd.DataFrame:
    """Train on shares of the patients; write and return a table with a row per share, class and metric.

    Columns: share (1 is the run itself), n_images and n_groups (that a fold is trained on, mean over folds), class,
    metric, mean and sd over folds, pooled, ci_low, ci_high (of the pooled value).

    Args:
        run: finished.
        shares: each above 0 and below 1.
        device: cpu, or cuda:<index>.

    Raises:
        ConfigError: a share is out of range, or none was given.
        RunError: the run is not finished, or another process trains one of the folds.
    """
    wrong = [share for share in shares if not 0 < share < 1]
    if wrong or not shares:
        raise ConfigError(f"--share must lie above 0 and below 1, got {wrong[0] if wrong else 'none'}.")
    require_complete(run)
    parts = [replace(run, share=share) for share in sorted(set(shares))]
    for part in parts:
        log.info("share %g of the patients: %d folds", part.share, run.config.folds)
        for fold in range(run.config.folds):
            train_fold(part, fold, device)
    table = pd.concat([_evaluate(part) for part in (*parts, run)], ignore_index=True)
    verified.write_table(run.folder.table("learning_curve"), table)
    return table


def _evaluate(part: Run) -> pd.DataFrame:
    """Return the rows of one share, whose folds have been trained."""
    folds = range(part.config.folds)
    predictions = pd.concat([verified.read_table(part.fold_folder(fold).predictions) for fold in folds])
    summary = summary_table(metrics_table(predictions, part.outputs))
    trained = [part.training_images(fold) for fold in folds]
    facts = {
        "share": part.share,
        "n_images": float(np.mean([len(images) for images in trained])),
        "n_groups": float(np.mean([images["group_id"].nunique() for images in trained])),
    }
    kept = summary[summary["metric"].isin(METRICS)].drop(columns=["mean_ci_low", "mean_ci_high"])
    return kept.assign(**facts)[[*facts, *kept.columns]].reset_index(drop=True)
