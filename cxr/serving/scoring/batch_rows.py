"""Which files of a batch get a row, and which of their images the networks have to see.

A file that has a row for its content or for its refusal gets no other, and images of the same bytes have one answer,
which the networks give for the first of them. This is decided in one process and in the order of the files, wherever
the files are read and the networks run, so the rows do not depend on that.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from cxr.images.inbox import Arrival
from cxr.images.other_files import OTHER_FILE
from cxr.serving.scoring import scores
from cxr.serving.scoring.scores import score_row
from cxr.serving.scoring.scoring_runs import ScoringRun
from cxr.serving.screening import FileReading

log = logging.getLogger(__name__)

STEP = 128
"""Images that the networks see together; in which company an image is seen may decide its last bits."""
Answers = Callable[[], Mapping[str, Mapping[str, object]]]
"""Returns predictions and measures under the column names of the scores, by image_id; waits for them if need be.

An image that changed before the networks saw it is missing.
"""
Ask = Callable[[Sequence[FileReading]], Answers]
"""Has the networks predict images, none of them refused."""


def steps_of(arrivals: Sequence[Arrival]) -> list[Sequence[Arrival]]:
    """Return the files of a chunk in steps that are read, and seen by the networks, together."""
    return [arrivals[start : start + STEP] for start in range(0, len(arrivals), STEP)]


def is_staged(run: ScoringRun, batch: str, arrivals: Sequence[Arrival]) -> bool:
    """Return whether the part of a chunk was staged already, by a try whose process was lost."""
    if run.part(batch, arrivals).exists():
        log.info("batch %r: a chunk of %d files was staged already", batch, len(arrivals))
        return True
    return False


@dataclass(frozen=True)
class AskedFile:
    """A file that was read, without its pixels, and what will answer it."""

    reading: FileReading
    answers: Answers

    @property
    def answer(self) -> Mapping[str, object] | None:
        """Prediction and measures; None if the file was refused, or changed before the networks saw it."""
        return self.answers().get(self.reading.image_id or "")


class BatchRows:
    """The rows of a batch's new files, chunk by chunk.

    Args:
        run: the scoring run.
        batch: name of the batch.
    """

    def __init__(self, run: ScoringRun, batch: str) -> None:
        self.batch = batch
        self._run = run
        self._package = run.package()
        self._seen = run.seen(batch)
        self._asked: dict[str, Answers] = {}

    def ask(self, readings: Sequence[FileReading], ask: Ask) -> list[AskedFile]:
        """Return the files that need a row, in order, having asked about the images that no answer is known for."""
        new = [reading for reading in readings if not self._is_known(reading)]
        images = {r.image_id: r for r in new if r.image_id and r.refused is None and r.image_id not in self._asked}
        stored = {image_id: row for image_id in images if (row := self._seen.answer(image_id)) is not None}
        self._asked |= dict.fromkeys(stored, lambda: stored)
        if unanswered := [reading for image_id, reading in images.items() if image_id not in stored]:
            self._asked |= dict.fromkeys([r.image_id or "" for r in unanswered], ask(unanswered))
        return [AskedFile(replace(r, square=None), self._asked.get(r.image_id or "", dict)) for r in new]

    def table(self, files: Iterable[AskedFile]) -> pd.DataFrame:
        """Return the rows of a chunk's files, once all of them are answered.

        Chunks are asked about ahead: a file may have got its row in the chunk before, under a name that prints alike.
        An image that changed since it was read has no answer, and waits for the next scoring run.
        """
        rows: list[dict[str, object]] = []
        for file in files:
            answer = file.answer
            if (file.reading.refused or answer is not None) and not self._is_known(file.reading):
                rows.append(score_row(self._package, self.batch, file.reading, answer or {}))
        table = scores.scores_table(rows, self._package.outputs)
        return table.drop_duplicates(["path", "image_id"], ignore_index=True)  # of names that print alike

    def stage(self, arrivals: Sequence[Arrival], table: pd.DataFrame) -> None:
        """Stage the rows of a chunk in the one part that belongs to it."""
        scores.stage(self._run.part(self.batch, arrivals), table)
        self._seen.add(table)  # only now: rows that could not be written have to be scored again
        for image_id in table["image_id"].dropna():
            self._asked.pop(image_id, None)
        n_scored = int((table["status"] == "ok").sum())
        n_other = int((table["reason"] == OTHER_FILE).sum())
        counts = n_scored, len(table) - n_scored - n_other, n_other
        log.info("batch %r: %d images scored, %d files quarantined, %d other files", self.batch, *counts)

    def _is_known(self, reading: FileReading) -> bool:
        """Return whether a file needs no row: it is being written, or has one for its content or refusal."""
        path = reading.arrival.path
        refused = reading.refused
        is_refused_again = refused is not None and self._seen.has_refusal(path, reading.image_id, refused.reason)
        return reading.is_changing or is_refused_again or self._seen.has_content(path, reading.image_id)
