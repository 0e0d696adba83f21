"""The gate: which suites check which tables at which step.

The images are checked before a model is trained on them, the results before anybody reads them. The verdicts are
written before a run is stopped (`require` in `data_checks.verdicts`), so there is always a report that says why.
"""

import logging

import pandas as pd

from cxr.classes import Classes, Findings, outputs_of
from cxr.config import DataConfig
from cxr.evaluation.acquisition_baseline import measure_acquisition_baseline
from cxr.feedback.ledger import read_ledger
from cxr.feedback.scored import read_scored
from cxr.storage import verified
from cxr.storage.run_folder import RunFolder
from cxr.storage.scores_folder import ScoresFolder
from cxr.training.run import Run
from cxr.verdict import Finding, Verdict
from data_checks import (
    acquisition_baseline,
    drift,
    feedback,
    findings,
    folds,
    left_aside,
    manifest,
    metrics,
    near_duplicates,
    predictions,
    scores,
)
from data_checks.suite import build_pages, open_context, run_suite
from data_checks.tolerances import Tolerances
from data_checks.verdicts import log_failed, write_verdicts

log = logging.getLogger("cxr.checks")


def check_data(folder: RunFolder, config: DataConfig, limit: Tolerances, *, data_docs: bool = False) -> list[Verdict]:
    """Check the tables that `examine` wrote into the folder; write the verdicts and the report; return the verdicts.

    Args:
        folder: holds the manifest, the files left aside, the near-duplicates, the folds and `data.json`.
        config: as `examine` got it.
        limit: what is still acceptable.
        data_docs: write Great Expectations' own pages as well.
    """
    context = open_context(folder.checks / "data_docs" if data_docs else None)
    images = verified.read_table(folder.manifest)
    pairs = verified.read_table(folder.near_duplicates)
    data = verified.read_json(folder.data)
    suite = manifest.expectations(config.folds, _class_names(data, config), _folders(images, data), limit)
    verdicts = [run_suite(context, manifest.TABLE, manifest.describe(images), suite)]
    rows = left_aside.describe(verified.read_table(folder.left_aside), images)
    verdicts.append(run_suite(context, left_aside.TABLE, rows, left_aside.expectations(limit)))
    rows = near_duplicates.describe(pairs, images)
    verdicts.append(run_suite(context, near_duplicates.TABLE, rows, near_duplicates.expectations()))
    if data["no_folds_because"]:
        verdicts.append(_no_folds(data["no_folds_because"]))
        verified.remove(folder.acquisition_baseline, folder.verdict("acquisition_baseline"))
    else:
        assigned = verified.read_table(folder.folds)
        rows = folds.describe(assigned, images, pairs, config)
        suite = folds.expectations(config, len(data["classes"]), limit)
        verdicts.append(run_suite(context, folds.TABLE, rows, suite))
        if config.has_findings:
            suite = findings.expectations(config.folds, limit)
            verdicts.append(run_suite(context, findings.TABLE, findings.describe(assigned), suite))
        outputs = outputs_of(data["classes"], several=config.has_findings)
        rows = acquisition_baseline.describe(_write_baseline(folder, images, assigned, outputs))
        suite = acquisition_baseline.expectations(limit)
        verdicts.append(run_suite(context, acquisition_baseline.TABLE, rows, suite))
    if data_docs:
        build_pages(context)
    write_verdicts(folder, config, verdicts, limit)
    return verdicts


def check_results(run: Run, limit: Tolerances) -> list[Verdict]:
    """Check the run's predictions and metrics; write the verdicts and the report; return the verdicts."""
    context = open_context()
    n_folds = run.config.folds
    rows = predictions.describe(verified.read_table(run.folder.predictions), run.images(), run.outputs)
    suite = predictions.expectations(run.outputs, n_folds, limit)
    verdicts = [run_suite(context, predictions.TABLE, rows, suite)]
    rows = metrics.describe(verified.read_table(run.folder.metrics))
    suite = metrics.expectations(n_folds, least_images=0 if isinstance(run.outputs, Findings) else 1)
    verdicts.append(run_suite(context, metrics.TABLE, rows, suite))
    write_verdicts(run.folder, run.config, verdicts, limit)
    return verdicts


def check_scores(
    rows: pd.DataFrame, compared: pd.DataFrame, outputs: Classes | Findings, version: str, limit: Tolerances
) -> list[Verdict]:
    """Check a batch's new scores and its drift; return the verdicts. A critical failure holds the batch.

    Args:
        rows: the batch's new rows of the scores.
        compared: what `cxr.metrics.drift.compare` returns for its images.
        outputs: the model's classes or findings, in output order.
        version: the version of the model that scored the batch.
        limit: what is still acceptable.
    """
    context = open_context()
    suite = scores.expectations(outputs, version, limit)
    verdicts = [run_suite(context, scores.TABLE, scores.describe(rows, outputs), suite)]
    described = drift.describe(compared, limit)
    verdicts.append(run_suite(context, drift.TABLE, described, drift.expectations(limit)))
    log_failed(verdicts)
    return verdicts


def check_feedback(folder: ScoresFolder, name: str, classes: Classes, limit: Tolerances) -> list[Verdict]:
    """Check every label that came after the scores of a model; return the verdicts.

    Args:
        folder: of the scores.
        name: of the model.
        classes: of its champion.
        limit: what is still acceptable.
    """
    rows = feedback.describe(read_ledger(folder.feedback(name)), read_scored(folder, name, classes))
    verdicts = [run_suite(open_context(), feedback.TABLE, rows, feedback.expectations(classes, limit))]
    log_failed(verdicts)
    return verdicts


def _class_names(data: dict, config: DataConfig) -> list[str]:
    """Return the classes that need at least one used image: the class folders, unless labels come from elsewhere."""
    if config.has_findings:
        return []
    return data["class_folders"] if config.label_from == "folder" else data["classes"] or []


def _folders(images: pd.DataFrame, data: dict) -> list[str]:
    """Return the folders that hold images and those that are empty."""
    return sorted({*images["path"].str.rpartition("/")[0], *data["empty_folders"]})


def _write_baseline(
    folder: RunFolder, images: pd.DataFrame, assigned: pd.DataFrame, outputs: Classes | Findings
) -> pd.DataFrame:
    baseline = measure_acquisition_baseline(images, assigned, outputs)
    verified.write_table(folder.acquisition_baseline, baseline)
    auc = baseline.query("features == 'all' and metric == 'roc_auc'")["value"].max()
    log.info("acquisition alone (size, brightness, mode) ranks the classes with a ROC-AUC of %.3f", auc)
    return baseline


def _no_folds(reason: str) -> Verdict:
    finding = Finding("folds_can_be_made", None, "critical", False, "Folds can be made.", 0, 1, [{"value": reason}])
    return Verdict(folds.TABLE.name, folds.TABLE.grain, "critical", [finding])
