"""Compute the run's tables and show them as artifacts."""

import re

import pandas as pd
from prefect import task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE

from cxr import evaluation
from cxr.experiment import Experiment
from cxr.layout import RunFolder
from tasks.logs import core_logs


@task(task_run_name="evaluate-folds", cache_policy=NO_CACHE)
def evaluate_folds(run: Experiment) -> None:
    """Write the out-of-fold tables; publish the metrics as a markdown and a table artifact."""
    with core_logs():
        evaluation.evaluate(run)
    table = evaluation.headline(run.folder).round(1)
    key = re.sub(r"[^a-z0-9]+", "-", run.folder.run_id.lower()).strip("-")
    rows = [table.columns.tolist(), *table.astype(object).where(table.notna(), None).to_numpy().tolist()]
    create_table_artifact(rows, key=f"metrics-{key}")
    create_markdown_artifact(_markdown(run.folder, table), key=f"summary-{key}")


def _markdown(folder: RunFolder, table: pd.DataFrame) -> str:
    rows = [
        f"| {r.metric} | {r.mean} ± {r.sd} | {r.pooled} [{r.ci_low}, {r.ci_high}] | {r.starting_project} |"
        for r in table.itertuples()
    ]
    return "\n".join(
        [
            f"# Run {folder.run_id}: out-of-fold metrics, %",
            "| metric | mean ± sd over folds | pooled [95 %] | starting project |",
            "| --- | --- | --- | --- |",
            *(row.replace("nan", "–") for row in rows),
            "",
            f"Tables: `{folder.metrics.parent}`. Academic and research use only; not a medical device.",
        ]
    )
