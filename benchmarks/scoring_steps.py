"""Where the milliseconds of an image go in a scoring run on one core: `python -m benchmarks.scoring --steps`.

A whole process says how long its stages take. What its stage `score` does is then done once more in this process, one
step after the other. On one core nothing overlaps, so both add up.
"""

import io
import os
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from cxr.config import ScoreConfig
from cxr.images import jpeg
from cxr.images.decoding import open_image, stretch
from cxr.images.inbox import Arrival, read_arrival
from cxr.images.reading import image_id_of
from cxr.images.vitals import are_same_image, fingerprint, fingerprint_bits, measure_levels
from cxr.serving.scoring.scorer import Scorer, answer
from cxr.serving.scoring.scoring_runs import CHUNK, open_scoring_run
from cxr.serving.screening import FileReading, read_image
from cxr.storage.scores_folder import ScoresFolder

T = TypeVar("T")
PART = "of it, "
"""How a step begins that is a part of the one before."""


class Clock:
    """Adds up the seconds of each step, by the clock and of this process: what is between them is waiting."""

    def __init__(self) -> None:
        self.seconds: dict[str, NDArray[np.float64]] = defaultdict(lambda: np.zeros(2))

    def __call__(self, step: str, work: Callable[..., T], *args: object, **options: object) -> T:
        """Return what the work returns."""
        start = _now()
        done = work(*args, **options)
        self.seconds[step] += _now() - start
        return done

    def ms(self, n_images: int) -> dict[str, NDArray[np.float64]]:
        """Return milliseconds an image, by the clock and of the CPU, and those of all steps together."""
        ms = {step: 1000 * seconds / n_images for step, seconds in self.seconds.items()}
        whole = [value for step, value in ms.items() if not step.startswith(PART)]
        return ms | {"all steps together": np.sum(whole, axis=0)}


def _now() -> NDArray[np.float64]:
    return np.array([time.perf_counter(), time.process_time()])


def use_one_core() -> None:
    """Keep this process, and those that it starts from now on, on one core."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(1)


def stages(out: Path, seconds: float, n_images: int) -> dict[str, float]:
    """Return the milliseconds an image of each stage of the only scoring run in a folder, and of its whole process.

    Args:
        out: the scores.
        seconds: that the process took.
        n_images: that were scored.
    """
    (scoring_run,) = ScoresFolder(out).scoring_runs()
    taken = pd.read_json(scoring_run.events, lines=True).groupby("stage", sort=False)["seconds"].sum()
    ms = {f"stage {stage}": 1000 * s / n_images for stage, s in taken.items()}
    return ms | {"outside of them: start-up, end": 1000 * (seconds - taken.sum()) / n_images}


def steps(inbox: Path, config: ScoreConfig) -> dict[str, NDArray[np.float64]]:
    """Return the milliseconds an image of each step of the stage `score`, for one chunk, the model being loaded.

    Each has two: by the clock, and of the CPU.
    """
    scoring_run, (batch,) = open_scoring_run(inbox, config)
    scorer, arrivals, clock = Scorer(scoring_run), batch.arrivals[:CHUNK], Clock()
    readings = _reading_steps(clock, arrivals, scorer.package.size)
    answers = _network_steps(clock, scorer, readings)
    rows = scorer.rows_of(batch.name)
    table = clock("rows as a table", lambda: rows.table(rows.ask(readings, lambda _: lambda: answers)))
    clock("the part's file, with fsync", rows.stage, arrivals, table)
    clock(PART + "its Parquet, in memory", table.to_parquet, io.BytesIO(), index=False, write_page_checksum=True)
    return clock.ms(len(arrivals))


def _reading_steps(clock: Clock, arrivals: Sequence[Arrival], size: int) -> list[FileReading]:
    """Take the time of what `read_image` does; return the readings."""
    for arrival in arrivals:
        data = clock("the file's bytes", read_arrival, arrival)
        clock("their SHA-256", image_id_of, data)
        image = clock("header", open_image, data)
        picture = clock("decoding, scaled", image.decode, size)
        clock(PART + "to an eighth, little but entropy decoding", jpeg.require_whole, data)
        square = clock("stretching to the square", stretch, picture.grey, size)
        clock("grey levels", measure_levels, square)
        clock("fingerprint", fingerprint, square)
    return [read_image(arrival, size) for arrival in arrivals]


def _network_steps(clock: Clock, scorer: Scorer, readings: list[FileReading]) -> dict[str, dict[str, Any]]:
    """Take the time of what `answer` does for two classes or more; return the answers."""
    predictor, package = scorer.predictor, scorer.package
    answer(predictor, readings[:64])  # loads the networks
    squares = np.stack([reading.square for reading in readings if reading.square is not None])
    bits = fingerprint_bits([reading.fingerprint or "" for reading in readings])
    known = fingerprint_bits(package.images()["fingerprint"].tolist())
    logits, features = clock("networks", predictor.ensemble.run, squares)
    clock("calibration and threshold", package.predict, logits)
    clock("novelty", package.novelty().distance, features, squares)
    clock("search for copies of training images", are_same_image, bits, known)
    return answer(predictor, readings)
