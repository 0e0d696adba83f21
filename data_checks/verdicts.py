"""The verdicts of a run: written with the report, read again, listed; and the error that a critical one raises."""

import logging
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from cxr.config import DataConfig
from cxr.errors import ChecksFailedError
from cxr.storage import verified
from cxr.storage.run_folder import RunFolder
from cxr.verdict import Verdict
from data_checks.report import write_report
from data_checks.tolerances import Tolerances

log = logging.getLogger("cxr.checks")

TABLES = (
    "manifest",
    "left_aside",
    "near_duplicates",
    "folds",
    "findings",
    "acquisition_baseline",
    "predictions",
    "metrics",
)
"""Tables of a run that have a verdict, in the order of the report."""


def write_verdicts(folder: RunFolder, config: DataConfig, verdicts: Sequence[Verdict], limit: Tolerances) -> None:
    """Write verdicts, the table of all expectations and the report into a run's folder; log what failed."""
    for verdict in verdicts:
        verified.write_json(folder.verdict(verdict.table), verdict.as_dict())
    all_verdicts = read_verdicts(folder)
    verified.write_table(folder.expectations, expectations_table(all_verdicts))
    write_report(folder, config, all_verdicts, limit)
    log_failed(verdicts)
    log.info("checks: %s", folder.checks_report)


def log_failed(verdicts: Sequence[Verdict]) -> None:
    """Log each critical expectation that failed as an error, and each warning as one."""
    for verdict in verdicts:
        for finding in [*verdict.failed("critical"), *verdict.failed("warning")]:
            log.log(
                logging.ERROR if finding.severity == "critical" else logging.WARNING,
                "%s: %s: %s Exceptions: %s",
                finding.severity,
                verdict.table,
                finding.sentence,
                finding.examples(3),
            )


def read_verdicts(folder: RunFolder) -> list[Verdict]:
    """Return the verdicts in a run's folder, in the order of TABLES."""
    return [
        Verdict.from_dict(verified.read_json(folder.verdict(table)))
        for table in TABLES
        if verified.exists(folder.verdict(table))
    ]


def expectations_table(verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """Return one row per table and expectation, as in `checks/expectations.parquet`."""
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
    """Raise ChecksFailedError if a critical expectation failed.

    Args:
        verdicts: of the tables that the next step needs.
        report: the page that the error points to.
    """
    failed = [(verdict, finding) for verdict in verdicts for finding in verdict.failed("critical")]
    if failed:
        verdict, finding = failed[0]
        others = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        raise ChecksFailedError(
            f"the checks stop here: {verdict.table}: {finding.sentence} Exceptions: {finding.examples(3)}{others}. "
            f"See {report}."
        )
