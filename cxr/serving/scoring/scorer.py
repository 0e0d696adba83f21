"""Scores a chunk of images with the champion, and stages the rows as one part of the scores."""

import logging
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from functools import lru_cache, partial

import pandas as pd

from cxr.images.inbox import Arrival
from cxr.images.other_files import OTHER_FILE
from cxr.network.devices import keep_freed_memory, resolve_device
from cxr.serving.predictor import Predictor
from cxr.serving.scoring import scores
from cxr.serving.scoring.scores import score_row
from cxr.serving.scoring.scoring_runs import ScoringRun
from cxr.serving.screening import FileReading, read_image
from cxr.storage import events

log = logging.getLogger(__name__)

STEP = 128
"""Images that are decoded before the network runs."""


def score_chunk(run: ScoringRun, batch: str, arrivals: Sequence[Arrival]) -> None:
    """Score files and stage one row for each, in the one part that belongs to this chunk.

    A chunk may be scored again after its process was lost; a part that was staged already is kept.
    """
    part = run.part(batch, arrivals)
    if part.exists():
        log.info("batch %r: a chunk of %d files was staged already", batch, len(arrivals))
        return
    with events.stage(run.folder.events, "score", batch=batch, device=resolve_device(run.config.device)) as stage:
        scorer = scorer_of(run)
        table = scorer.score(batch, arrivals)
        scores.stage(part, table)
        scorer.take_note(table)  # only now: rows that could not be written have to be scored again
        stage.n_images = len(table)
    n_scored = int((table["status"] == "ok").sum())
    n_other = int((table["reason"] == OTHER_FILE).sum())
    n_quarantined = len(table) - n_scored - n_other
    log.info(
        "batch %r: %d images scored, %d files quarantined, %d other files", batch, n_scored, n_quarantined, n_other
    )


@lru_cache(maxsize=1)
def scorer_of(run: ScoringRun) -> "Scorer":
    """Return the scoring run's scorer, loaded once per process."""
    return Scorer(run)


class Scorer:
    """The champion, loaded, with the threads or processes that decode for it."""

    def __init__(self, run: ScoringRun) -> None:
        keep_freed_memory()
        config = run.config
        self.run = run
        self.package = run.package()
        self.predictor = Predictor(
            self.package,
            device=config.device,
            precision=config.precision,
            compile=config.compile,
            cache=config.cache,
            n_images=run.n_images,
        )
        self._n_ahead, self._pool = self._decoders(config.workers)
        self._batch: str | None = None

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
        if batch != self._batch:
            self._batch = batch
            self._seen = self.run.seen(batch)
        rows: list[dict[str, object]] = []
        answers: dict[str, dict[str, object]] = {}
        for readings in self._read(arrivals):
            new = [reading for reading in readings if not self._is_known(reading)]
            images = {r.image_id: r for r in new if r.image_id and r.refused is None and r.image_id not in answers}
            stored = {image_id: row for image_id in images if (row := self._seen.answer(image_id)) is not None}
            answers |= stored | self._predict([r for image_id, r in images.items() if image_id not in stored])
            rows += [score_row(self.package, batch, r, answers.get(r.image_id or "", {})) for r in new]
        table = scores.scores_table(rows, self.package.outputs)
        return table.drop_duplicates(["path", "image_id"], ignore_index=True)  # of names that print alike

    def take_note(self, table: pd.DataFrame) -> None:
        """Remember that these rows of the batch are on disk."""
        self._seen.add(table)

    def _is_known(self, reading: FileReading) -> bool:
        """Return whether a file needs no row: it is being written, or has one for its content or refusal."""
        path = reading.arrival.path
        refused = reading.refused
        is_refused_again = refused is not None and self._seen.has_refusal(path, reading.image_id, refused.reason)
        return reading.is_changing or is_refused_again or self._seen.has_content(path, reading.image_id)

    def _read(self, arrivals: Sequence[Arrival]) -> Iterator[list[FileReading]]:
        """Yield the readings step by step, decoding ahead where processes do it."""
        read = partial(read_image, size=self.package.size)
        steps = [arrivals[start : start + STEP] for start in range(0, len(arrivals), STEP)]
        pending = []
        for step in steps:
            pending.append(self._pool.map(read, step, chunksize=8))
            if len(pending) > self._n_ahead:
                yield list(pending.pop(0))
        for readings in pending:
            yield list(readings)

    def _predict(self, readings: Sequence[FileReading]) -> dict[str, dict[str, object]]:
        """Return predictions and measures of images under the column names of the scores, by image_id."""
        predictions = zip(readings, self.predictor.predict(readings), strict=True)
        return {reading.image_id or "": prediction.columns | reading.measures for reading, prediction in predictions}
