"""One opening of a test set: its images are predicted by the finished ensemble, recorded, and evaluated.

Calibration and thresholds come from out-of-fold predictions and are applied unchanged; the mean of the folds'
calibrated probabilities is evaluated, in float32. Every opening is recorded with hashes, because a test set that is
opened again and again stops being one.
"""

import hashlib
import json
import logging

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr.classes import Findings
from cxr.evaluation.findings import out_of_fold_of
from cxr.evaluation.outside.comparison import write_comparison
from cxr.evaluation.outside.metrics import outside_metrics
from cxr.metrics.calibration import average_folds
from cxr.storage import files, verified
from cxr.storage.run_folder import OutsideTestFolder
from cxr.training.predictions import ensemble_logits
from cxr.training.run import Run, require_complete

log = logging.getLogger(__name__)


def weights_of(run: Run) -> list[str]:
    """Return the hash of each fold's weights."""
    return [verified.sha256_of(run.folder.fold(fold).weights) for fold in range(run.config.folds)]


def open_test(
    run: Run, folder: OutsideTestFolder, images: pd.DataFrame, squares: NDArray[np.uint8], left_out: dict[str, int]
) -> OutsideTestFolder:
    """Evaluate the images of a test set and record that it was opened; return the folder of the results.

    Args:
        run: finished.
        folder: gets predictions, metrics, what these are compared with, and the record.
        images: columns image_id, path, group_id, label, subtype, and finding_<name> of several findings.
        squares: of the images, shape (n, size, size).
        left_out: how many images of the set were left out, by reason.

    Raises:
        DataError: a finding is known in none of the images.
        RunError: the run is not finished.
    """
    require_complete(run)
    inside = verified.read_table(run.folder.predictions)
    findings = run.outputs if isinstance(run.outputs, Findings) else Findings()
    internal = out_of_fold_of(inside, run.outputs)
    probability, spread = average_folds(internal.calibration, ensemble_logits(run, squares))
    columns = dict(zip(run.outputs.probability_columns, probability.T, strict=True))
    identity = images[["image_id", "path", "group_id", "label", "subtype", *findings.columns]]
    predictions = identity.assign(**columns, fold_spread=spread)
    metrics = outside_metrics(predictions, internal)
    _record_opening(run, folder, predictions, left_out)
    verified.write_table(folder.predictions, predictions)
    verified.write_table(folder.metrics, metrics)
    write_comparison(run, folder)
    log.info("%d images evaluated by the finished ensemble: %s", len(images), folder.path)
    return folder


def _record_opening(run: Run, folder: OutsideTestFolder, predictions: pd.DataFrame, left_out: dict[str, int]) -> None:
    """Record this opening before the results can be read; warn if the test set was opened before."""
    before = verified.read_json(folder.openings)["openings"] if verified.exists(folder.openings) else []
    opening = {
        "opened_at": files.now(),
        "n_images": len(predictions),
        "left_out": left_out,
        "config": run.config_hash,
        "weights": weights_of(run),
        "images": _digest(sorted(predictions["image_id"])),
        "predictions": _digest(predictions.drop(columns=["path"]).to_json(orient="values", double_precision=6)),
    }
    if before:
        same = all(before[-1][name] == opening[name] for name in ("images", "weights", "predictions"))
        log.warning(
            "this test set was opened before: %d times, last at %s; images, weights and predictions are %s",
            len(before),
            before[-1]["opened_at"],
            "the same" if same else "not the same",
        )
    verified.write_json(folder.openings, {"openings": [*before, opening]})


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
