"""Images that cross-validation never sees, judged once by the finished ensemble.

`--holdout test` keeps the archive's own test split out of everything; an outside set is judged in the same way.
Calibration and thresholds come from out-of-fold predictions and are applied unchanged; the mean of the folds'
calibrated probabilities is judged, in float32. Every opening is written down with hashes: a test set that is
opened again and again is no test set.
"""

import hashlib
import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr.classes import Classes
from cxr.config import DataConfig
from cxr.dataset.examination import examine
from cxr.dataset.folds import group_images
from cxr.dataset.manifest import class_names
from cxr.errors import DataError, RunError
from cxr.evaluation.analyses import RATES
from cxr.evaluation.out_of_fold import OutOfFold
from cxr.evaluation.tables import metrics_table
from cxr.images.source import KAGGLE
from cxr.images.vitals import are_same_image, fingerprint, fingerprint_bits
from cxr.metrics.bootstrap import draw_groups, percentile_interval, replicate_metrics
from cxr.metrics.calibration import average_folds
from cxr.metrics.classification import binary_metrics
from cxr.network.resnet import predict_logits
from cxr.storage import files
from cxr.storage.files import sha256_of
from cxr.storage.run_folder import OutsideTestFolder, RunFolder
from cxr.training.predictions import load_network
from cxr.training.run import Run, require_complete

log = logging.getLogger(__name__)

METRICS = ("roc_auc", *RATES)
LIKELIEST = "likeliest"
"""How images are called where there are more than two classes, which have no operating points."""


def open_held_out_test(run: Run) -> OutsideTestFolder:
    """Evaluate the images that the run's holdout keeps; return where the results are.

    Raises:
        RunError: the run keeps no images out, or is not finished.
    """
    if run.config.holdout is None:
        raise RunError(
            f"run {run.folder.run_id!r} has kept no images out: train one with --holdout test, which seals that split."
        )
    manifest = files.read_table(run.folder.manifest)
    kept = manifest[(manifest["split"] == run.config.holdout) & (manifest["status"] != "unreadable")]
    images = kept.drop_duplicates("image_id", ignore_index=True)
    near = files.read_table(run.folder.near_duplicates)
    images = images.assign(group_id=group_images(images, near))
    left_out = {"identical": len(kept) - len(images)}
    return _judge(run, run.folder.held_out_test, images, run.squares(images), left_out)


def evaluate_external(run: Run, data: str) -> OutsideTestFolder:
    """Evaluate the images of an outside set, without those that the run was made from; return where the results are.

    Args:
        run: finished.
        data: folder or zip laid out as for training, with the run's classes.

    Raises:
        ConfigError: the set lies in an object store.
        DataError: there are no images, no new ones, or other classes.
        RunError: the run is not finished.
    """
    files.require_local("--external", Path(data))
    require_complete(run)
    place = Path(data).expanduser().resolve() if data != KAGGLE else Path(KAGGLE)
    folder = run.folder.external_test(place)
    config = replace(run.config, data=str(place), holdout=None)
    examine(config, RunFolder(folder.path), cache=run.cache, size=run.config.size)
    manifest = files.read_table(RunFolder(folder.path).manifest)
    _require_classes(manifest, config, run.classes)
    readable = manifest[manifest["status"] != "unreadable"]
    images = readable.drop_duplicates("image_id", ignore_index=True)
    images = images.assign(group_id=group_images(images, files.read_table(RunFolder(folder.path).near_duplicates)))
    squares = replace(run, config=config).squares(images)
    is_known = _are_known(run, images, squares)
    left_out = {"identical": len(readable) - len(images), "in_training": int(is_known.sum())}
    if is_known.all():
        raise DataError(
            f"all {len(images)} images of {data!r} were used to make run {run.folder.run_id!r}: give others."
        )
    return _judge(run, folder, images[~is_known].reset_index(drop=True), squares[~is_known], left_out)


def _require_classes(manifest: pd.DataFrame, config: DataConfig, classes: Classes) -> None:
    found = class_names(manifest, config)
    if found != classes:
        raise DataError(
            f"an outside set needs the run's classes {', '.join(classes)}; {config.data!r} has {', '.join(found)}: "
            "name its folders so."
        )


def _are_known(run: Run, images: pd.DataFrame, squares: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Tell of each image whether the run was made from it: the same bytes, or the same image re-encoded."""
    training = run.images()
    bits, known = (fingerprint_bits([fingerprint(one) for one in those]) for those in (squares, run.squares(training)))
    return images["image_id"].isin(training["image_id"]).to_numpy() | are_same_image(bits, known)


def is_current(run: Run, folder: OutsideTestFolder) -> bool:
    """Tell whether a test's results are of the weights that the run has now."""
    return files.read_json(folder.openings)["openings"][-1]["weights"] == _weights(run)


def _weights(run: Run) -> list[str]:
    return [sha256_of(run.folder.fold(fold).weights) for fold in range(run.config.folds)]


def _judge(
    run: Run, folder: OutsideTestFolder, images: pd.DataFrame, squares: NDArray[np.uint8], left_out: dict[str, int]
) -> OutsideTestFolder:
    require_complete(run)
    internal = OutOfFold(files.read_table(run.folder.predictions), run.classes)
    logits = np.stack([predict_logits(load_network(run, fold), squares, "cpu") for fold in range(run.config.folds)])
    probability, spread = average_folds(internal.calibration, logits)
    columns = {f"probability_{name}": probability[:, k] for k, name in enumerate(run.classes)}
    identity = images[["image_id", "path", "group_id", "label", "subtype"]]
    predictions = identity.assign(**columns, fold_spread=spread)
    metrics = _metrics_table(predictions, run.classes, internal.thresholds)
    _write_down_opening(run, folder, predictions, left_out)
    files.write_table(folder.predictions, predictions)
    files.write_table(folder.metrics, metrics)
    log.info("%d images judged by the finished ensemble: %s", len(images), folder.path)
    return folder


def _metrics_table(predictions: pd.DataFrame, classes: Classes, thresholds: dict[Any, float]) -> pd.DataFrame:
    """Return one row per operating point and metric, or for more than two classes those of the likeliest class.

    Columns: operating_point, threshold, class, metric, value, ci_low, ci_high, n, reason.
    """
    if len(classes) > 2:
        table = metrics_table(predictions.assign(fold=0), classes).query("scope == 'pooled'")
        table = table.assign(operating_point=LIKELIEST, threshold=np.nan)
        names = ["operating_point", "threshold", "class", "metric", "value", "ci_low", "ci_high", "n", "reason"]
        return table[names].reset_index(drop=True)
    truth = (predictions["label"] == classes[1]).to_numpy()
    score = predictions[f"probability_{classes[1]}"].to_numpy()
    group = predictions["group_id"].factorize()[0].astype(np.int64)
    drawn, rows = draw_groups(int(group.max()) + 1), []
    for point, threshold in thresholds.items():
        values = binary_metrics(truth, score >= threshold, score)
        replicates = replicate_metrics(truth, score >= threshold, score, group, drawn)
        for metric in METRICS:
            low, high = percentile_interval(replicates[metric])
            rows.append(
                {
                    "operating_point": point,
                    "threshold": threshold,
                    "class": classes[1],
                    "metric": metric,
                    "value": values[metric].value,
                    "ci_low": low,
                    "ci_high": high,
                    "n": len(truth),
                    "reason": values[metric].reason,
                }
            )
    return pd.DataFrame(rows).astype({"reason": "str"})


def _write_down_opening(
    run: Run, folder: OutsideTestFolder, predictions: pd.DataFrame, left_out: dict[str, int]
) -> None:
    """Add this opening to the record, before anyone can read the results; warn if there was one before."""
    before = files.read_json(folder.openings)["openings"] if folder.openings.exists() else []
    opening = {
        "opened_at": files.now(),
        "n_images": len(predictions),
        "left_out": left_out,
        "config": run.config_hash,
        "weights": _weights(run),
        "images": _digest(sorted(predictions["image_id"])),
        "predictions": _digest(predictions.drop(columns=["path"]).to_json(orient="values", double_precision=6)),
    }
    if before:
        same = all(before[-1][name] == opening[name] for name in ("images", "weights", "predictions"))
        log.warning(
            "these images have been judged before: %d times, last at %s; images, weights and predictions are %s",
            len(before),
            before[-1]["opened_at"],
            "the same" if same else "not the same",
        )
    files.write_json(folder.openings, {"openings": [*before, opening]})


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
