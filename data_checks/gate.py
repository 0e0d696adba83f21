"""The gate: which suites judge which tables when, and whether the run may go on.

The data are judged before anything is trained on them, the results before anybody reads them. Each
verdict is written before the gate closes, so whoever is stopped finds a report.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from cxr.classes import Classes
from cxr.config import DataConfig
from cxr.errors import ChecksFailedError
from cxr.evaluation.acquisition_baseline import measure_acquisition_baseline
from cxr.storage import files
from cxr.storage.run_folder import RunFolder
from cxr.training.run import Run
from cxr.verdict import Finding, Verdict
from data_checks import acquisition_baseline, folds, manifest, metrics, near_duplicates, predictions, scores
from data_checks import drift as drift_suite
from data_checks.report import write_report
from data_checks.suite import judge, open_context
from data_checks.tolerances import Tolerances

log = logging.getLogger("cxr.checks")

TABLES = ("manifest", "near_duplicates", "folds", "acquisition_baseline", "predictions", "metrics")


def check_data(folder: RunFolder, config: DataConfig, limit: Tolerances, *, data_docs: bool = False) -> list[Verdict]:
    """Judge what `cxr.dataset.examine` left in the folder; write the verdicts and the report; return the verdicts."""
    context = open_context(folder.checks / "data_docs" if data_docs else None)
    images, pairs = files.read_table(folder.manifest), files.read_table(folder.near_duplicates)
    data = files.read_json(folder.data)
    suite = manifest.expectations(config.folds, _classes(data, config), _folders(images, data), limit)
    verdicts = [
        judge(context, "manifest", manifest.GRAIN, manifest.describe(images), manifest.NAMES, suite),
        judge(
            context,
            "near_duplicates",
            near_duplicates.GRAIN,
            near_duplicates.describe(pairs, images),
            near_duplicates.NAMES,
            near_duplicates.expectations(),
        ),
    ]
    if data["no_folds_because"]:
        verdicts.append(_no_folds(data["no_folds_because"]))
        for stale in (folder.acquisition_baseline, folder.verdict("acquisition_baseline")):
            stale.unlink(missing_ok=True)
    else:
        assigned, classes = files.read_table(folder.folds), data["classes"]
        rows = folds.describe(assigned, images, pairs, config)
        suite = folds.expectations(config.folds, len(classes), limit)
        verdicts.append(judge(context, "folds", folds.GRAIN, rows, folds.NAMES, suite))
        baseline = measure_acquisition_baseline(images, assigned, Classes(classes))
        files.write_table(folder.acquisition_baseline, baseline)
        together = baseline[(baseline["features"] == "all") & (baseline["metric"] == "roc_auc")]["value"].iloc[0]
        log.info("acquisition alone (size, brightness, mode) ranks the classes with a ROC-AUC of %.3f", together)
        rows, suite = acquisition_baseline.describe(baseline), acquisition_baseline.expectations(limit)
        verdicts.append(
            judge(context, "acquisition_baseline", acquisition_baseline.GRAIN, rows, acquisition_baseline.NAMES, suite)
        )
    if data_docs:
        context.build_data_docs()
    _write(folder, config, verdicts)
    return verdicts


def check_results(run: Run, limit: Tolerances) -> list[Verdict]:
    """Judge the run's predictions and metrics; write the verdicts and the report; return the verdicts."""
    context, folder, n_folds = open_context(), run.folder, run.config.folds
    rows = predictions.describe(files.read_table(folder.predictions), run.images(), run.classes)
    suite = predictions.expectations(run.classes, n_folds, limit)
    verdicts = [judge(context, "predictions", predictions.GRAIN, rows, predictions.NAMES, suite)]
    rows, suite = metrics.describe(files.read_table(folder.metrics)), metrics.expectations(n_folds)
    verdicts.append(judge(context, "metrics", metrics.GRAIN, rows, metrics.NAMES, suite))
    _write(folder, run.config, verdicts)
    return verdicts


def check_scores(
    rows: pd.DataFrame, drift: pd.DataFrame, classes: Sequence[str], version: str, limit: Tolerances
) -> list[Verdict]:
    """Judge a batch's new scores and its drift; whatever is critical holds the batch.

    Args:
        rows: as `cxr.scores.scores_table` makes them.
        drift: of `cxr.drift.compare`.
    """
    context = open_context()
    suite = scores.expectations(classes, version, limit)
    verdicts = [judge(context, "scores", scores.GRAIN, scores.describe(rows, classes), scores.NAMES, suite)]
    compared, suite = drift_suite.describe(drift, limit), drift_suite.expectations(limit)
    verdicts.append(judge(context, "drift", drift_suite.GRAIN, compared, drift_suite.NAMES, suite))
    _log_failed(verdicts)
    return verdicts


def _classes(data: dict, config: DataConfig) -> list[str]:
    """Return the names that a used image is to be found of: folders, unless labels come from elsewhere."""
    return data["class_folders"] if config.label_from == "folder" else data["classes"] or []


def _folders(images: pd.DataFrame, data: dict) -> list[str]:
    return sorted({*images["path"].str.rpartition("/")[0], *data["empty_folders"]})


def _no_folds(reason: str) -> Verdict:
    finding = Finding("folds_can_be_made", None, "critical", False, "Folds can be made.", 0, 1, [{"value": reason}])
    return Verdict("folds", folds.GRAIN, "critical", [finding])


def _write(folder: RunFolder, config: DataConfig, verdicts: Sequence[Verdict]) -> None:
    for verdict in verdicts:
        files.write_json(folder.verdict(verdict.table), verdict.as_dict())
    everything = read_verdicts(folder)
    files.write_table(folder.expectations, expectations_table(everything))
    write_report(folder, config, everything)
    _log_failed(verdicts)
    log.info("checks: %s", folder.checks_report)


def _log_failed(verdicts: Sequence[Verdict]) -> None:
    for verdict in verdicts:
        for finding in [*verdict.failed("critical"), *verdict.failed("warning")]:
            log.log(
                logging.ERROR if finding.severity == "critical" else logging.WARNING,
                "%s: %s: %s Not so: %s",
                finding.severity,
                verdict.table,
                finding.sentence,
                finding.examples(3),
            )


def read_verdicts(folder: RunFolder) -> list[Verdict]:
    """Return the verdicts that stand in a run's folder."""
    return [
        Verdict.from_dict(files.read_json(folder.verdict(table))) for table in TABLES if folder.verdict(table).exists()
    ]


def expectations_table(verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """Return one row per table and expectation: what `checks/expectations.parquet` holds."""
    rows = [
        {
            "table": verdict.table,
            "expectation": finding.expectation,
            "column": finding.column,
            "severity": finding.severity,
            "passed": finding.passed,
            "sentence": finding.sentence,
            "n_rows": finding.n_rows,
            "n_unexpected": finding.n_unexpected,
            "examples": finding.examples(3),
        }
        for verdict in verdicts
        for finding in verdict.findings
    ]
    return pd.DataFrame(rows).astype({"column": "str", "examples": "str"})


def require(verdicts: Sequence[Verdict], report: Path) -> None:
    """Raise ChecksFailedError if anything critical failed."""
    failed = [(verdict, finding) for verdict in verdicts for finding in verdict.failed("critical")]
    stopping = [verdict for verdict in verdicts if verdict.highest_failed == "critical"]
    if stopping:
        verdict, finding = failed[0]
        others = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        raise ChecksFailedError(
            f"the checks stop here: {verdict.table}: {finding.sentence} Not so: {finding.examples(3)}{others}. "
            f"See {report}."
        )
