"""Scores a chunk of images with the champion in this process, and stages the rows as one part of the scores."""

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from functools import lru_cache, partial

import pandas as pd

from cxr.images.inbox import Arrival
from cxr.network.devices import keep_freed_memory, resolve_device
from cxr.serving.predictor import Predictor
from cxr.serving.scoring.batch_rows import Answers, BatchRows, is_staged, steps_of
from cxr.serving.scoring.scoring_runs import ScoringRun
from cxr.serving.screening import FileReading, read_image
from cxr.storage import events


def score_chunk(run: ScoringRun, batch: str, arrivals: Sequence[Arrival]) -> None:
    """Score files and stage one row for each, in the one part that belongs to this chunk.

    A chunk may be scored again after its process was lost; a part that was staged already is kept.
    """
    if is_staged(run, batch, arrivals):
        return
    with events.stage(run.folder.events, "score", batch=batch, device=resolve_device(run.config.device)) as stage:
        scorer = scorer_of(run)
        table = scorer.score(batch, arrivals)
        scorer.rows_of(batch).stage(arrivals, table)
        stage.n_images = len(table)


def predictor_of(run: ScoringRun) -> Predictor:
    """Return the scoring run's champion, loaded in this process as the run's config has it."""
    keep_freed_memory()
    config = run.config
    return Predictor(
        run.package(),
        device=config.device,
        precision=config.precision,
        compile=config.compile,
        cache=config.cache,
        n_images=run.n_images,
    )


def answer(predictor: Predictor, readings: Sequence[FileReading]) -> dict[str, dict[str, object]]:
    """Return predictions and measures of images under the column names of the scores, by image_id.

    Args:
        predictor: the model.
        readings: images, none of them refused.
    """
    predictions = zip(readings, predictor.predict(readings), strict=True)
    return {reading.image_id or "": prediction.columns | reading.measures for reading, prediction in predictions}


@lru_cache(maxsize=1)
def scorer_of(run: ScoringRun) -> "Scorer":
    """Return the scoring run's scorer, loaded once per process."""
    return Scorer(run)


class Scorer:
    """The champion, loaded, with the threads or processes that decode for it."""

    def __init__(self, run: ScoringRun) -> None:
        self.run = run
        self.package = run.package()
        self.predictor = predictor_of(run)
        self._n_ahead, self._pool = self._decoders(run.config.workers)
        self._rows: BatchRows | None = None

    def _decoders(self, workers: int | None) -> tuple[int, Executor]:
        """Return how many steps are decoded ahead, and the pool that decodes them."""
        n_cores = os.cpu_count() or 1
        n_workers = workers if workers is not None else (n_cores - 1 if self.predictor.device != "cpu" else 0)
        if n_workers:
            return 2, ProcessPoolExecutor(n_workers, multiprocessing.get_context("spawn"))
        return 0, ThreadPoolExecutor(n_cores)

    def score(self, batch: str, arrivals: Sequence[Arrival]) -> pd.DataFrame:
        """Return a row for each file, except files that are being written or have a row already.

        A copy of an image in the same batch gets the answer of the first; the network runs once for each image.
        """
        rows = self.rows_of(batch)
        return rows.table([file for readings in self._read(arrivals) for file in rows.ask(readings, self._ask)])

    def rows_of(self, batch: str) -> BatchRows:
        """Return the rows of a batch; those of the batch that was asked for last are kept."""
        if self._rows is None or self._rows.batch != batch:
            self._rows = BatchRows(self.run, batch)
        return self._rows

    def _read(self, arrivals: Sequence[Arrival]) -> Iterator[list[FileReading]]:
        """Yield the readings step by step, decoding ahead where processes do it."""
        read = partial(read_image, size=self.package.size)
        pending = []
        for step in steps_of(arrivals):
            pending.append(self._pool.map(read, step, chunksize=8))
            if len(pending) > self._n_ahead:
                yield list(pending.pop(0))
        for readings in pending:
            yield list(readings)

    def _ask(self, readings: Sequence[FileReading]) -> Answers:
        answers = answer(self.predictor, readings)
        return lambda: answers
