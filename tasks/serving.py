"""Score the new images of an inbox: a task for each chunk of images, one to conclude each batch, one to report.

Another writes and sends what is asked for as DICOM.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from prefect import task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.utilities.annotations import quote

from cxr.config import ScoreConfig
from cxr.dicom_results.results import write_and_send
from cxr.images.inbox import Arrival, Batch
from cxr.report.scoring_report import markdown, write_scoring_report
from cxr.serving.scoring import scorer, scoring_runs
from cxr.serving.scoring.outcome import Outcome, conclude, totals
from cxr.serving.scoring.scoring_runs import ScoringRun, chunks
from data_checks.gate import check_scores
from data_checks.tolerances import Tolerances
from tasks.artifacts import artifact_key, table_rows
from tasks.logs import core_logs
from tasks.ray_cluster import connected

if TYPE_CHECKING:
    from tasks.ray_scoring import Stream


@task(task_run_name="open-scoring-run", cache_policy=NO_CACHE)
def open_scoring_run(inbox: Path, config: ScoreConfig) -> tuple[ScoringRun, list[Batch]]:
    """Finish what a killed scoring run had decided; list the batches with new images."""
    with core_logs():
        return scoring_runs.open_scoring_run(inbox, config)


@contextmanager
def batch_scorer(config: ScoreConfig) -> Iterator[Callable[[ScoringRun, Batch], None]]:
    """Yield a function that scores a batch's new images: chunk by chunk in this process, or on a Ray cluster."""
    if config.runner == "local":
        yield _in_turn
    else:
        with connected(config.ray_address, n_gpus=config.gpus_per_chunk):
            from tasks.ray_scoring import Stream

            stream_of = lru_cache(maxsize=1)(Stream)
            yield lambda scoring_run, batch: _on_cluster(stream_of(scoring_run), batch)


def _in_turn(scoring_run: ScoringRun, batch: Batch) -> None:
    for number, chunk in enumerate(chunks(batch)):
        arrivals: Any = quote(chunk)  # Prefect need not look into each of them
        score_chunk(scoring_run, batch.name, arrivals, number)


def _on_cluster(stream: "Stream", batch: Batch) -> None:
    quoted: Any = quote(batch)
    score_on_cluster(stream, quoted, batch.name)


@task(task_run_name="score-{batch}-{number}", retries=1, cache_policy=NO_CACHE)
def score_chunk(scoring_run: ScoringRun, batch: str, arrivals: Sequence[Arrival], number: int) -> None:
    """Score a chunk of images and stage a row for each, unless its rows are staged already."""
    with core_logs():
        scorer.score_chunk(scoring_run, batch, arrivals)


@task(task_run_name="score-{name}", retries=1, cache_policy=NO_CACHE)
def score_on_cluster(stream: "Stream", batch: Batch, name: str) -> None:
    """Score the new images of a batch on a cluster and stage a row for each, unless its rows are staged already."""
    with core_logs():
        stream.score(batch)


@task(task_run_name="conclude-{batch.name}", cache_policy=NO_CACHE)
def conclude_batch(scoring_run: ScoringRun, batch: Batch, limit: Tolerances) -> Outcome:
    """Check a batch's scores; decide whether it is published or held."""
    with core_logs():
        return conclude(scoring_run, batch, partial(check_scores, limit=limit))


@task(task_run_name="report-scoring-run", cache_policy=NO_CACHE)
def report_scoring_run(scoring_run: ScoringRun, outcomes: Sequence[Outcome]) -> None:
    """Write the scoring run's record and report; publish both as artifacts."""
    with core_logs():
        write_scoring_report(scoring_run, outcomes)
    columns = ["batch", "decision", "n_scored", "n_unlike_training", "n_quarantined", "n_other_files", "n_waiting"]
    columns += ["n_in_training", "estimated_accuracy"]
    table = pd.DataFrame([{column: getattr(outcome, column) for column in columns} for outcome in outcomes])
    key = artifact_key(scoring_run.config.name)
    counts = ", ".join(f"{n:,} {what}" for what, n in totals(outcomes).items())
    described = {"description": f"{scoring_run.started_at}: {counts}"}
    create_table_artifact(table_rows(table.reindex(columns=columns)), key=f"scoring-run-{key}", **described)
    create_markdown_artifact(markdown(scoring_run, outcomes), key=f"report-{key}", **described)


@task(task_run_name="write-dicom-results", cache_policy=NO_CACHE)
def write_dicom_results(scoring_run: ScoringRun) -> None:
    """Write the DICOM results that are missing, and send those that their node has not confirmed."""
    with core_logs():
        write_and_send(scoring_run)
