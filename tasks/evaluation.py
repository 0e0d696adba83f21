"""Compute a run's tables and show them as artifacts."""

import pandas as pd
from prefect import task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE

from cxr.evaluation.overview import headline
from cxr.evaluation.tables import evaluate
from cxr.storage import verified
from cxr.storage.run_folder import RunFolder
from cxr.training.run import Run
from cxr.wording import DISCLAIMER, display_name, format_estimate, markdown
from tasks.artifacts import artifact_key, table_rows
from tasks.logs import core_logs

CLUSTERS = "Each fold left out a cluster of images acquired alike: the images are unlike those trained on."


@task(task_run_name="evaluate-folds", cache_policy=NO_CACHE)
def evaluate_folds(run: Run) -> Run:
    """Write the out-of-fold tables, publish the metrics as a markdown and a table artifact, and return the run."""
    with core_logs():
        evaluate(run)
    table = headline(run.folder).round(1)
    key = artifact_key(run.folder.run_id)
    create_table_artifact(table_rows(table), key=f"metrics-{key}", description=_headline(run.folder, table))
    create_markdown_artifact(
        _markdown(run.folder, table), key=f"summary-{key}", description=_headline(run.folder, table)
    )
    return run


def _headline(folder: RunFolder, table: pd.DataFrame) -> str:
    """Return the run's name and its ROC-AUC, as the description of an artifact."""
    row = table[table["metric"].str.endswith("roc_auc")].iloc[0]
    value = format_estimate(row["pooled"], row["ci_low"], row["ci_high"], scale=1, unit="%")
    return f"run {markdown(folder.run_id)}: {markdown(display_name(row['metric']))} {value}, out of fold"


def _markdown(folder: RunFolder, table: pd.DataFrame) -> str:
    beside = "starting_project" in table and table["starting_project"].notna().any()
    rows = [
        f"| {markdown(display_name(row['metric']))} | {format_estimate(row['mean'], sd=row['sd'], scale=1)} | "
        f"{format_estimate(row['pooled'], row['ci_low'], row['ci_high'], scale=1)} |"
        + (f" {format_estimate(row['starting_project'], scale=1)} |" if beside else "")
        for row in table.to_dict("records")
    ]
    return "\n".join(
        [
            f"# Run {markdown(folder.run_id)}: out-of-fold metrics, %",
            "| metric | mean ± sd over folds | pooled [95%] |" + (" starting project |" if beside else ""),
            "| --- | --- | --- |" + (" --- |" if beside else ""),
            *rows,
            "",
            *([CLUSTERS] if verified.exists(folder.table("cluster_metrics")) else []),
            f"Tables: {markdown(folder.metrics.parent)}. {DISCLAIMER}",
        ]
    )
