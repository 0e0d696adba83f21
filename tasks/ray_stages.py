"""What the nodes of a Ray cluster do for a scoring run: read and decode files, and predict images.

Ray's workers import this module. It needs no Prefect, and torch only where the networks run.
"""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cxr.images.inbox import Arrival
from cxr.serving.scoring.scoring_runs import ScoringRun
from cxr.serving.screening import FileReading, read_image

Squares = dict[str, NDArray[np.uint8]]
"""Images of shape (size, size), by image_id."""


def read_step(arrivals: Sequence[Arrival], size: int) -> tuple[list[FileReading], Squares]:
    """Return what files hold, and the images among them apart, as only the networks need the pixels.

    Args:
        arrivals: the files.
        size: side of the model's squares, in pixels.
    """
    readings = [read_image(arrival, size) for arrival in arrivals]
    squares = {r.image_id: r.square for r in readings if r.image_id is not None and r.square is not None}
    return [replace(reading, square=None) for reading in readings], squares


@dataclass(frozen=True)
class Answered:
    """What the networks of a node say of a step's images."""

    answers: Mapping[str, Mapping[str, object]]
    """By image_id, as `cxr.serving.scoring.batch_rows.Answers` returns them."""
    waited_s: float
    """Seconds since the answer before; 0 for the first."""
    computed_s: float
    lines: list[tuple[int, str]]
    """The log lines of the core: level and message."""


class Network:
    """The champion on a node; load it first.

    Args:
        run: the scoring run.
        n_threads: threads of the CPU to compute with; None for Ray's choice.
    """

    def __init__(self, run: ScoringRun, n_threads: int | None) -> None:
        self._run = run
        self._n_threads = n_threads
        self._ended: float | None = None

    def load(self) -> list[tuple[int, str]]:
        """Load the model; return the log lines of the core."""
        import torch

        from cxr.serving.scoring.scorer import predictor_of

        if self._n_threads is not None:
            torch.set_num_threads(self._n_threads)
        with _kept_lines() as lines:
            self._predictor = predictor_of(self._run)
            _ = self._predictor.ensemble  # loaded now, not when the first images are there
        return lines

    def answer(self, readings: Sequence[FileReading], squares: Squares) -> Answered:
        """Return predictions and measures of images; one that has changed since it was read is left out.

        Args:
            readings: images, without their pixels.
            squares: the pixels, as they were read last.
        """
        from cxr.serving.scoring.scorer import answer

        began = time.monotonic()
        images = [replace(r, square=squares[r.image_id]) for r in readings if r.image_id in squares]
        with _kept_lines() as lines:
            answers = answer(self._predictor, images)
        waited_s = 0.0 if self._ended is None else began - self._ended
        self._ended = time.monotonic()
        return Answered(answers, waited_s, self._ended - began, lines)


@contextmanager
def _kept_lines() -> Iterator[list[tuple[int, str]]]:
    """Yield a list that gets the core's log lines while the block runs."""
    lines: list[tuple[int, str]] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append((record.levelno, record.getMessage()))
    core = logging.getLogger("cxr")
    core.setLevel(logging.INFO)
    core.addHandler(handler)
    try:
        yield lines
    finally:
        core.removeHandler(handler)
