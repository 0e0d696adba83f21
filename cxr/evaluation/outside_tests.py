"""Tests on images outside cross-validation, predicted by the finished ensemble.

`--holdout test` keeps the archive's own test split out of everything: the held-out test set. An external test set comes
from elsewhere and is evaluated in the same way. Calibration and thresholds come from out-of-fold predictions and are
applied unchanged; the mean of the folds' calibrated probabilities is evaluated, in float32. Every opening is recorded
with hashes, because a test set that is opened again and again stops being one.
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

from cxr.classes import Classes, Findings
from cxr.config import KAGGLE, DataConfig, TrainConfig
from cxr.dataset.examination import examine, outputs_in
from cxr.dataset.folds import group_images
from cxr.dataset.patients import elsewhere
from cxr.errors import DataError, RunError
from cxr.evaluation.analyses import RATES
from cxr.evaluation.findings import FindingsOutOfFold, label_as_two_classes
from cxr.evaluation.out_of_fold import OutOfFold
from cxr.evaluation.tables import pooled_metrics_table
from cxr.images.vitals import are_same_image, fingerprint, fingerprint_bits
from cxr.labelling import Labelling
from cxr.metrics.bootstrap import Replicates
from cxr.metrics.calibration import average_folds
from cxr.metrics.estimates import estimate
from cxr.network.resnet import predict_logits
from cxr.storage import files, verified
from cxr.storage.run_folder import OutsideTestFolder, RunFolder
from cxr.training.predictions import load_network
from cxr.training.run import Run, require_complete

log = logging.getLogger(__name__)

METRICS = ("roc_auc", *RATES)
COLUMNS = ["operating_point", "threshold", "class", "metric", "value", "ci_low", "ci_high", "n", "reason"]
LIKELIEST = "likeliest"
"""The name of the most probable class as an operating point: more than two classes have no other."""


def open_held_out_test(run: Run) -> OutsideTestFolder:
    """Evaluate the held-out test set; return the folder of the results.

    Raises:
        RunError: the run holds no images out, or is not finished.
    """
    if run.config.holdout is None:
        raise RunError(
            f"run {run.folder.run_id!r} has no held-out test set: train one with --holdout test, "
            "which keeps that split out."
        )
    manifest = verified.read_table(run.folder.manifest)
    held_out = manifest[(manifest["split"] == run.config.holdout) & (manifest["status"] != "unreadable")]
    images = held_out.drop_duplicates("image_id", ignore_index=True)
    near = verified.read_table(run.folder.near_duplicates)
    images = images.assign(group_id=group_images(images, near))
    left_out = {"identical": len(held_out) - len(images)}
    return _evaluate(run, run.folder.held_out_test, images, run.squares(images), left_out)


def evaluate_external(run: Run, data: str, labelling: Labelling | None = None) -> OutsideTestFolder:
    """Evaluate an external test set, without images that the run was made from; return the folder of the results.

    Args:
        run: finished.
        data: a folder or an archive laid out as for training, with the run's classes; or kaggle.
        labelling: the set's tables of labels; None if its labels are folders.

    Raises:
        ConfigError: the set lies in an object store, or an option about tables of labels does not fit it.
        DataError: the set has no images, only images that the run was made from, or other classes.
        RunError: the run is not finished.
    """
    files.require_local("--external", Path(data))
    require_complete(run)
    place = Path(data).expanduser().resolve() if data != KAGGLE else Path(KAGGLE)
    folder = run.folder.external_test(place)
    config = _config_of_set(run, str(place), labelling or Labelling())
    examine(config, RunFolder(folder.path), cache=run.cache, size=run.config.size, is_test_set=True)
    manifest = verified.read_table(RunFolder(folder.path).manifest)
    _require_classes(manifest, config, run.outputs)
    readable = manifest[manifest["status"] != "unreadable"]
    images = readable.drop_duplicates("image_id", ignore_index=True)
    images = images.assign(group_id=group_images(images, verified.read_table(RunFolder(folder.path).near_duplicates)))
    squares = replace(run, config=config).squares(images)
    is_known = _are_known(run, images, squares)
    left_out = {"identical": len(readable) - len(images), "in_training": int(is_known.sum())}
    if is_known.all():
        raise DataError(
            f"all {len(images)} images of {data!r} were used to make run {run.folder.run_id!r}: give other images."
        )
    return _evaluate(run, folder, images[~is_known].reset_index(drop=True), squares[~is_known], left_out)


def _config_of_set(run: Run, data: str, labelling: Labelling) -> TrainConfig:
    """Return the run's config with a set's data and tables in place of the run's own."""
    is_of_table = labelling.reads_tables and not run.config.has_findings
    positive = run.classes.positive if is_of_table else run.config.positive
    changed = {
        "data": data,
        "holdout": None,
        "positive": positive,
        "patient_pattern": elsewhere(run.config.patient_pattern),
    }
    return replace(run.config, **labelling.labelling() | changed)


def _require_classes(manifest: pd.DataFrame, config: DataConfig, outputs: Classes | Findings) -> None:
    found = outputs_in(manifest, config)
    if found != outputs:
        kind, way_out = ("findings", "columns") if isinstance(outputs, Findings) else ("classes", "folders")
        raise DataError(
            f"an external test set needs the run's {kind} {', '.join(outputs)}; {config.data!r} has "
            f"{', '.join(found)}: rename its {way_out}, or say which label is which class with --value."
        )


def _are_known(run: Run, images: pd.DataFrame, squares: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return whether the run was made from each image, shape (n,): from its bytes, or from a copy re-encoded."""
    training = run.images()
    bits, known = (
        fingerprint_bits([fingerprint(square) for square in part]) for part in (squares, run.squares(training))
    )
    return images["image_id"].isin(training["image_id"]).to_numpy() | are_same_image(bits, known)


def is_current(run: Run, folder: OutsideTestFolder) -> bool:
    """Return whether a test's results come from the weights that the run has now."""
    return verified.read_json(folder.openings)["openings"][-1]["weights"] == _weights(run)


def _weights(run: Run) -> list[str]:
    return [verified.sha256_of(run.folder.fold(fold).weights) for fold in range(run.config.folds)]


def _evaluate(
    run: Run, folder: OutsideTestFolder, images: pd.DataFrame, squares: NDArray[np.uint8], left_out: dict[str, int]
) -> OutsideTestFolder:
    require_complete(run)
    inside = verified.read_table(run.folder.predictions)
    findings = run.outputs if isinstance(run.outputs, Findings) else Findings()
    internal = FindingsOutOfFold(inside, findings) if findings else OutOfFold(inside, run.classes)
    logits = np.stack([predict_logits(load_network(run, fold), squares, "cpu") for fold in range(run.config.folds)])
    probability, spread = average_folds(internal.calibration, logits)
    columns = dict(zip(run.outputs.probability_columns, probability.T, strict=True))
    identity = images[["image_id", "path", "group_id", "label", "subtype", *findings.columns]]
    predictions = identity.assign(**columns, fold_spread=spread)
    if isinstance(internal, FindingsOutOfFold):
        metrics = _metrics_of_findings(predictions, internal)
    else:
        metrics = _metrics_table(predictions, run.classes, internal.thresholds)
    _record_opening(run, folder, predictions, left_out)
    verified.write_table(folder.predictions, predictions)
    verified.write_table(folder.metrics, metrics)
    log.info("%d images evaluated by the finished ensemble: %s", len(images), folder.path)
    return folder


def _metrics_of_findings(predictions: pd.DataFrame, internal: FindingsOutOfFold) -> pd.DataFrame:
    """Return the rows of `_metrics_table` for each finding, on the images in which it is known.

    Raises:
        DataError: a finding is known in none of them.
    """
    parts = []
    for name, thresholds in internal.thresholds.items():
        images = label_as_two_classes(predictions, internal.findings, name)
        if images.empty:
            raise DataError(f"finding {name!r} is known in no image of the test set: give one with labels of it.")
        classes = internal.findings.against_absence(name)
        absent, _ = classes.probability_columns
        scored = images.assign(**{absent: 1 - images[f"probability_{name}"]})
        parts.append(_metrics_table(scored, classes, thresholds))
    return pd.concat(parts, ignore_index=True)


def _metrics_table(predictions: pd.DataFrame, classes: Classes, thresholds: dict[Any, float]) -> pd.DataFrame:
    """Return one row per operating point and metric; for more than two classes, per metric of the most probable class.

    Columns: operating_point, threshold, class, metric, value, ci_low, ci_high, n, reason.
    """
    name = classes.positive
    if name is None:
        table = pooled_metrics_table(predictions, classes)
        table = table.assign(operating_point=LIKELIEST, threshold=np.nan)
        return table[COLUMNS].reset_index(drop=True)
    truth = (predictions["label"] == name).to_numpy()
    score = predictions[classes.probability_columns[1]].to_numpy()
    replicates = Replicates.of(predictions["group_id"])
    rows = []
    for point, threshold in thresholds.items():
        where = {"operating_point": point, "threshold": threshold, "class": name, "n": len(truth)}
        estimates = estimate(truth, score >= threshold, score, replicates)
        rows += [where | row for row in estimates.rows(METRICS)]
    return pd.DataFrame(rows, columns=COLUMNS).astype({"reason": "str"})


def _record_opening(run: Run, folder: OutsideTestFolder, predictions: pd.DataFrame, left_out: dict[str, int]) -> None:
    """Record this opening before the results can be read; warn if the test set was opened before."""
    before = verified.read_json(folder.openings)["openings"] if verified.exists(folder.openings) else []
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
            "this test set was opened before: %d times, last at %s; images, weights and predictions are %s",
            len(before),
            before[-1]["opened_at"],
            "the same" if same else "not the same",
        )
    verified.write_json(folder.openings, {"openings": [*before, opening]})


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
