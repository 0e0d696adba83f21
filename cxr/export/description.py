"""Describes a package: `package.json`, the model card, and the checksums that make it unchangeable."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from cxr.classes import MACRO, Classes, Findings
from cxr.evaluation.out_of_fold import OutOfFold
from cxr.evaluation.overview import headline_of
from cxr.export.evaluated import Evaluated
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
    evaluated: Evaluated,
    fitted: Fitted | FittedFindings,
    name: str,
    version: str,
    identity: Mapping[str, Any],
    bfloat16: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the contents of package.json, except for the limit of novelty.

    Args:
        run: the finished run.
        evaluated: how its networks predict.
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
        "n_images": len(evaluated.out_of_fold.predictions),
        "preprocessing": _preprocessing(run),
        "recipe": " ".join(recipe_sentences(run.config)),
        **_decided(evaluated, fitted),
        "thresholds": fitted.thresholds,
        "thresholds_from": fitted.origin,
        "operating_point": identity["operating_point"],
        "bfloat16": bfloat16,
        **({"int8": evaluated.judged} if evaluated.judged else {}),
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


def metrics_of(summary: pd.DataFrame, outputs: Classes | Findings) -> list[dict[str, Any]]:
    """Return the main metrics of a summary in percent, as rows for package.json."""
    rows = headline_of(summary, outputs)
    return json.loads(rows.drop(columns="starting_project").to_json(orient="records"))


def _decided(evaluated: Evaluated, fitted: Fitted | FittedFindings) -> dict[str, Any]:
    """Return calibration and metrics; of findings, and of more than two classes, those of each."""
    out_of_fold, summary = evaluated.out_of_fold, evaluated.summary
    if isinstance(out_of_fold, OutOfFold):
        metrics = metrics_of(summary, out_of_fold.classes)
        decided = {"calibration": _calibration(out_of_fold, fitted.calibration), "metrics": metrics}
        return decided if out_of_fold.classes.is_binary else decided | {"metrics_by_class": _metrics_by_class(summary)}
    calibration = {name: _calibration(images, images.calibration) for name, images in out_of_fold.by_finding.items()}
    by_finding = {"calibration": {"by_finding": calibration}, "metrics_by_finding": _metrics_by_finding(summary)}
    return by_finding | {"metrics": metrics_of(summary, out_of_fold.findings)}


def _metrics_by_class(summary: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the pooled metrics of each class against the rest, from 0 to 1."""
    rows = summary[summary["class"].notna() & (summary["class"] != MACRO)]
    return json.loads(rows[["class", "metric", "pooled", "ci_low", "ci_high"]].to_json(orient="records"))


def _metrics_by_finding(summary: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the pooled metrics of each finding, from 0 to 1, with how many images they are from."""
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


def _config_without_folders(run: Run) -> dict[str, Any]:
    """Return a run's config without the folders of this machine."""
    config = run.config
    return config.as_dict() | {"data": Path(config.data).name, "weights": Path(config.weights).name}
