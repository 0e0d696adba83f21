"""Describes a package: `package.json`, the model card, and the checksums that make it unchangeable."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cxr.classes import MACRO
from cxr.evaluation.findings import FindingsOutOfFold
from cxr.evaluation.out_of_fold import OutOfFold
from cxr.evaluation.overview import headline
from cxr.export.fitted import Fitted, FittedFindings
from cxr.export.model_card import LICENCE, LIMITS, model_card
from cxr.metrics.calibration import Calibration, CalibrationOfFindings, calibration_errors
from cxr.storage import files, verified
from cxr.storage.model_folder import PackageFolder
from cxr.training.provenance import code_provenance
from cxr.training.recipe_text import VIEWS, recipe_sentences
from cxr.training.run import Run

PREPROCESSING = (
    "decoded to grey (luma), stretched to size × size with bilinear filtering, {}, "
    "repeated to 3 channels, normalised with the mean and standard deviation that are stored with the weights{}"
)
LEVELS = {
    "none": "divided by 255",
    "percentile": "its grey levels stretched from its 2nd percentile (0) to its 98th (1)",
}


def package_facts(
    run: Run,
    out_of_fold: OutOfFold | FindingsOutOfFold,
    fitted: Fitted | FittedFindings,
    name: str,
    version: str,
    identity: Mapping[str, Any],
    bfloat16: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the contents of package.json, except for the limit of novelty and what 8-bit integers cost.

    Args:
        run: the finished run.
        out_of_fold: its predictions.
        fitted: the calibration and thresholds of the package.
        name: of the model.
        version: of the package.
        identity: what was packaged, and how: packages with the same identity are the same.
        bfloat16: what it costs, from `measure_rounding`.
    """
    record = verified.read_record(run.folder.config)
    return {
        "format": identity["format"],
        "name": name,
        "version": version,
        "identity": identity,
        "made_at": files.now(),
        "run_id": run.folder.run_id,
        "classes": run.outputs,
        "positive": record["positive"],
        "architecture": "torchvision resnet50",
        "trainable": run.config.trainable,
        "size": run.config.size,
        "n_folds": run.config.folds,
        "n_images": len(out_of_fold.predictions),
        "preprocessing": _preprocessing(run),
        "recipe": " ".join(recipe_sentences(run.config)),
        **_decided(run, out_of_fold, fitted),
        "thresholds": fitted.thresholds,
        "thresholds_from": fitted.origin,
        "operating_point": identity["operating_point"],
        "bfloat16": bfloat16,
        "hashes": {"data": record["identity"]["data"], "weights": run.weights_hash, "config": run.config_hash},
        "config": _config_without_folders(run),
        "code": code_provenance(),
        "licence": LICENCE,
        "limits": LIMITS,
    }


def describe(folder: PackageFolder, facts: Mapping[str, Any]) -> None:
    """Write package.json, the model card and, last of all, the checksums of every file."""
    files.write_json(folder.description, facts)
    files.write_text(folder.card, model_card(facts))
    verified.record_all(folder.path)


def _decided(run: Run, out_of_fold: OutOfFold | FindingsOutOfFold, fitted: Fitted | FittedFindings) -> dict[str, Any]:
    """Return calibration and metrics; of findings, those of each."""
    if isinstance(out_of_fold, OutOfFold):
        return {"calibration": _calibration(out_of_fold, fitted.calibration), "metrics": _metrics(run)}
    calibration = {name: _calibration(images, images.calibration) for name, images in out_of_fold.by_finding.items()}
    by_finding = {"calibration": {"by_finding": calibration}, "metrics_by_finding": _metrics_by_finding(run)}
    return by_finding | {"metrics": _metrics(run)}


def _metrics_by_finding(run: Run) -> list[dict[str, Any]]:
    """Return the pooled metrics of each finding, from 0 to 1, with how many images they are from."""
    summary = verified.read_table(run.folder.summary)
    rows = summary[summary["class"] != MACRO]
    columns = ["class", "metric", "pooled", "ci_low", "ci_high", "n_known", "n_present"]
    return json.loads(rows[columns].to_json(orient="records"))


def _calibration(out_of_fold: OutOfFold, calibration: Calibration | CalibrationOfFindings) -> dict[str, Any]:
    """Return the calibration, and the errors of the out-of-fold one before and after."""
    errors = {
        "before": calibration_errors(out_of_fold.probability, out_of_fold.target),
        "after": calibration_errors(out_of_fold.calibrated, out_of_fold.target),
    }
    return dataclasses.asdict(calibration) | errors


def _preprocessing(run: Run) -> str:
    views = VIEWS[run.config.test_views]
    return PREPROCESSING.format(LEVELS[run.config.standardise], f"; logits averaged over {views}" if views else "")


def _metrics(run: Run) -> list[dict[str, Any]]:
    rows = headline(run.folder)
    return json.loads(rows.drop(columns="starting_project").to_json(orient="records"))


def _config_without_folders(run: Run) -> dict[str, Any]:
    """Return a run's config without the folders of this machine."""
    config = run.config
    return config.as_dict() | {"data": Path(config.data).name, "weights": Path(config.weights).name}
