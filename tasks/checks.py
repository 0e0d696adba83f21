"""Check tables with Great Expectations, show the verdicts as artifacts, and stop a run that should not go on."""

from collections.abc import Sequence

import pandas as pd
from prefect import task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE

from cxr.config import DataConfig
from cxr.storage import events
from cxr.storage.run_folder import RunFolder
from cxr.training.run import Run
from cxr.verdict import SEVERITIES, Verdict
from cxr.wording import DISCLAIMER, markdown
from data_checks import gate
from data_checks.tolerances import Tolerances
from data_checks.verdicts import expectations_table, require
from tasks.artifacts import artifact_key, table_rows
from tasks.logs import core_logs


@task(task_run_name="check-data", cache_policy=NO_CACHE)
def check_data(folder: RunFolder, config: DataConfig, limit: Tolerances, data_docs: bool = False) -> RunFolder:
    """Check images, copies, folds and acquisition; return the folder, or raise ChecksFailedError if it is unfit."""
    with core_logs(), events.stage(folder.events, "check_data"):
        verdicts = gate.check_data(folder, config, limit, data_docs=data_docs)
    _publish(folder, verdicts, "data")
    require(verdicts, folder.checks_report)
    return folder


@task(task_run_name="check-results", cache_policy=NO_CACHE)
def check_results(run: Run, limit: Tolerances) -> Run:
    """Check predictions and metrics; return the run, or raise ChecksFailedError if a critical expectation failed."""
    with core_logs(), events.stage(run.folder.events, "check_results"):
        verdicts = gate.check_results(run, limit)
    _publish(run.folder, verdicts, "results")
    require(verdicts, run.folder.checks_report)
    return run


def _publish(folder: RunFolder, verdicts: Sequence[Verdict], what: str) -> None:
    """Publish every expectation as a table artifact, and those that failed as a markdown artifact."""
    key = f"{what}-{artifact_key(folder.run_id)}"
    table = expectations_table(verdicts)
    failed = table[~table["passed"]]
    description = f"{what} of {markdown(folder.run_id)}: {_met(table)}"
    create_table_artifact(table_rows(table), key=f"checks-{key}", description=description)
    heading = f"# Checks of {what}: {markdown(folder.run_id)}\n\n{_met(table)}.\n\n"
    report = f"Report: {markdown(folder.checks_report)}. {DISCLAIMER}"
    create_markdown_artifact(heading + _rows(failed) + report, key=f"verdict-{key}", description=description)


def _met(table: pd.DataFrame) -> str:
    """Return how many expectations are met, and how many of each severity are not."""
    failed = table.loc[~table["passed"], "severity"].value_counts()
    counts = ", ".join(f"{failed[severity]} {severity}" for severity in SEVERITIES if severity in failed)
    return f"{table['passed'].sum()} of {len(table)} expectations are met{f', all but {counts}' if counts else ''}"


def _rows(failed: pd.DataFrame) -> str:
    """Return the expectations that failed as a table in Markdown; nothing if there are none."""
    if failed.empty:
        return ""
    lines = [f"| {r.severity} | {r.table} | {markdown(r.sentence)} | {r.n_unexpected:,} |" for r in failed.itertuples()]
    return "\n".join(["| severity | table | not met | exceptions |", "| --- | --- | --- | --- |", *lines, "", ""])
