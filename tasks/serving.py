"""Score what is new in the inbox: a task for each chunk of films, one that judges each batch, one that reports."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from prefect import task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.utilities.annotations import quote

from cxr.config import ScoreConfig
from cxr.images.inbox import Arrival, Batch
from cxr.report.scoring_report import markdown, write_night
from cxr.serving import scorer, scoring_run
from cxr.serving.outcome import Outcome, conclude
from cxr.serving.scoring_run import Night, chunks
from data_checks.gate import check_scores
from data_checks.tolerances import Tolerances
from tasks.logs import core_logs
from tasks.ray_cluster import Submit, ray_cluster


@task(task_run_name="open-night", cache_policy=NO_CACHE)
def open_night(inbox: Path, config: ScoreConfig) -> tuple[Night, list[Batch]]:
    """Finish what a killed run had decided; list what is new."""
    with core_logs():
        return scoring_run.open_night(inbox, config)


@contextmanager
def chunk_runner(config: ScoreConfig) -> Iterator[Callable[[Night, Batch], None]]:
    """Yield a function that scores a batch's new films, one task run for each chunk, and waits for all of them."""
    if config.runner == "local":
        yield _in_turn
    else:
        with ray_cluster(config.ray_address, n_gpus=config.gpus_per_chunk) as submit:
            yield partial(_at_once, submit)


def _in_turn(night: Night, batch: Batch) -> None:
    for number, chunk in enumerate(chunks(batch)):
        arrivals: Any = quote(chunk)  # Prefect need not look into each
        score_chunk(night, batch.name, arrivals, number)


def _at_once(submit: Submit, night: Night, batch: Batch) -> None:
    """Score all chunks, then raise if one has failed; what the others staged is kept."""
    pending = [
        submit(score_chunk, {"night": night, "batch": batch.name, "arrivals": chunk, "number": number})
        for number, chunk in enumerate(chunks(batch))
    ]
    for future in pending:
        future.wait()
    for future in pending:
        future.result()


@task(task_run_name="score-{batch}-{number}", retries=1, cache_policy=NO_CACHE)
def score_chunk(night: Night, batch: str, arrivals: Sequence[Arrival], number: int) -> None:
    """Score films and stage a row for each; a chunk that was staged before is not asked for again."""
    with core_logs():
        scorer.score_chunk(night, batch, arrivals)


@task(task_run_name="conclude-{batch.name}", cache_policy=NO_CACHE)
def conclude_batch(night: Night, batch: Batch, limit: Tolerances) -> Outcome:
    """Judge a batch; publish or hold it."""
    with core_logs():
        return conclude(night, batch, partial(check_scores, limit=limit))


@task(task_run_name="report-night", cache_policy=NO_CACHE)
def report_night(night: Night, outcomes: Sequence[Outcome]) -> None:
    """Write the night's record and page; publish both as artifacts."""
    with core_logs():
        write_night(night, outcomes)
    columns = ["batch", "decision", "n_scored", "n_quarantined", "n_waiting", "n_in_training", "estimated_accuracy"]
    rows = [[getattr(outcome, column) for column in columns] for outcome in outcomes]
    name = night.config.name.lower().replace("_", "-").replace(".", "-")
    create_table_artifact([columns, *rows], key=f"night-{name}")
    create_markdown_artifact(markdown(night, outcomes), key=f"report-{name}")
