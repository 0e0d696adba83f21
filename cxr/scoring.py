"""The nightly job: what is new in the inbox goes through the champion, once.

A night lists each batch, leaves out what this version of the model has scored before, and goes through the
rest in chunks; each chunk is a part of the scores, written in one step, so a kill costs one chunk at most.
Nothing of the inbox is moved, renamed or deleted. A file that is no film has a row with the reason.

How films are decoded. On a CPU the forward pass uses every core, and decoding beside it would only get in its
way: a step's films are decoded by all cores, then the network runs. In front of a GPU, processes decode the
next step's films while the network runs (`--workers`). Rows do not depend on the number of either.
"""

import logging
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from pathlib import Path

import pandas as pd

from cxr import events, scores
from cxr.config import ScoreConfig
from cxr.devices import keep_freed_memory, resolve_device
from cxr.errors import ConfigError
from cxr.inbox import Arrival, Batch, batch_names, list_batch
from cxr.judging import Judge, Reading, read_film, score_row
from cxr.layout import BatchFolder, ModelFolder, ScoresFolder
from cxr.package import Package, load_package
from cxr.registry import load_champion

log = logging.getLogger(__name__)

CHUNK = 512
"""Films between two writes."""
STEP = 128
"""Films that are decoded before the network sees them."""


@dataclass(frozen=True)
class Night:
    """One run of the job: which model scores which inbox."""

    inbox: Path
    config: ScoreConfig
    version: str
    started_at: str
    n_films: int
    """Files that are new and not empty; what compiling has to be repaid by."""

    @property
    def scores(self) -> ScoresFolder:
        """Where the scores stand."""
        return ScoresFolder(self.config.out.expanduser().resolve())

    def staged(self, batch: str) -> BatchFolder:
        """Return where the batch's parts lie until it has been judged."""
        return self.scores.staged(self.config.name, self.version, batch)

    def part(self, batch: str, arrivals: Sequence[Arrival]) -> Path:
        """Return where the rows of a chunk of the batch's films are staged."""
        return self.staged(batch).part("\n".join([self.started_at, *(arrival.path for arrival in arrivals)]))

    def package(self) -> Package:
        """Return the model that scores tonight."""
        return _package(self.config.models, self.config.name, self.version)


@lru_cache(maxsize=2)
def _package(models: Path, name: str, version: str) -> Package:
    return load_package(ModelFolder.named(models, name).version(version))


def open_night(inbox: Path, config: ScoreConfig) -> tuple[Night, list[Batch]]:
    """Return tonight's job and every batch, each with the files that are new; finish what a killed run had decided.

    Call it under the lock of the scores.

    Args:
        inbox: folder of batches, one folder each; read, never changed.

    Raises:
        ConfigError: the scores would lie in the inbox.
        DataError: the inbox cannot be listed.
        DeviceError: the device is not there.
        PackageError: the model has no champion, or its files were changed.
    """
    inbox, folder = inbox.expanduser().resolve(), ScoresFolder(config.out.expanduser().resolve())
    if folder.path.is_relative_to(inbox):
        raise ConfigError(f"--out {str(config.out)!r} lies in the inbox, which is never written to: give another.")
    resolve_device(config.device)
    with events.stage(None, "open") as stage:
        package = load_champion(config.models, config.name)
        scores.recover(folder, config.name, package.version)
        batches = []
        for name, path in batch_names(inbox).items():
            batch = list_batch(inbox, name, path, config.settle)
            seen = scores.Seen(folder, config.name, package.version, name)
            new = [a for a in batch.arrivals if not seen.has_file(a.path, a.n_bytes, a.changed_ns)]
            batches.append(Batch(name, new, batch.n_waiting, batch.left_aside))
            log.info("batch %r: %d new files, %d seen before, %d still being copied",
                     name, len(new), len(batch.arrivals) - len(new), batch.n_waiting)  # fmt: skip
        started = _name_night(folder)
        stage.file, stage.n_films = folder.night(started).events, sum(len(batch.arrivals) for batch in batches)
    n_films = sum(arrival.n_bytes > 0 for batch in batches for arrival in batch.arrivals)
    return Night(inbox, config, package.version, started, n_films), batches


def _name_night(folder: ScoresFolder) -> str:
    """Return the moment in UTC, or the next that no night is named after: the clock may have been set back."""
    moment = datetime.now(UTC)
    while folder.night(name := moment.strftime("%Y-%m-%dT%H-%M-%S-%fZ")).path.exists():
        moment += timedelta(microseconds=1)
    return name


def chunks(batch: Batch) -> list[list[Arrival]]:
    """Return the batch's new files in portions that are written together."""
    return [batch.arrivals[start : start + CHUNK] for start in range(0, len(batch.arrivals), CHUNK)]


def score_chunk(night: Night, batch: str, arrivals: Sequence[Arrival]) -> None:
    """Score films and stage a row for each, in the one part that is theirs tonight.

    A chunk that is asked for twice, because it is not known whether a lost process had staged it, has one part still.
    """
    folder, part = night.scores.night(night.started_at), night.part(batch, arrivals)
    if part.exists():
        log.info("batch %r: a chunk of %d files was staged already", batch, len(arrivals))
        return
    with events.stage(folder.events, "score", batch=batch, device=resolve_device(night.config.device)) as stage:
        scorer = scorer_of(night)
        table = scorer.score(batch, arrivals)
        scores.stage(part, table)
        scorer.take_note(table)  # not before: what could not be written has to be scored again
        stage.n_films = len(table)
    counts = table["status"].value_counts()
    log.info(
        "batch %r: %d films scored, %d files quarantined", batch, counts.get("ok", 0), counts.get("quarantined", 0)
    )


@lru_cache(maxsize=1)
def scorer_of(night: Night) -> "Scorer":
    """Return what scores tonight's films, made once."""
    return Scorer(night)


class Scorer:
    """The champion, loaded, and what decodes ahead of it."""

    def __init__(self, night: Night) -> None:
        keep_freed_memory()
        config = night.config
        self.night, self.package = night, night.package()
        self.judge = Judge(
            self.package, device=config.device, precision=config.precision, compile=config.compile, cache=config.cache,
            n_films=night.n_films,
        )  # fmt: skip
        self._n_ahead, self._pool = self._decoders(night.config.workers)
        self._batch: str | None = None

    def _decoders(self, workers: int | None) -> tuple[int, Executor]:
        """Return how many steps are read ahead, and what reads them."""
        n_cores = os.cpu_count() or 1
        n_workers = workers if workers is not None else (n_cores - 1 if self.judge.device != "cpu" else 0)
        if n_workers:
            return 2, ProcessPoolExecutor(n_workers, multiprocessing.get_context("spawn"))
        return 0, ThreadPoolExecutor(n_cores)

    def score(self, batch: str, arrivals: Sequence[Arrival]) -> pd.DataFrame:
        """Return a row for each file, except those that are being changed or were seen under the same name."""
        if batch != self._batch:
            self._batch = batch
            self._seen = scores.Seen(self.night.scores, self.package.name, self.package.version, batch)
        rows: list[dict[str, object]] = []
        answers: dict[str, dict[str, object]] = {}
        for readings in self._read(arrivals):
            new = [reading for reading in readings if not self._is_known(reading)]
            films = {r.image_id: r for r in new if r.image_id and r.refused is None and r.image_id not in answers}
            known = {image_id: row for image_id in films if (row := self._seen.answer(image_id)) is not None}
            answers |= known | self._answer([r for image_id, r in films.items() if image_id not in known])
            rows += [score_row(self.package, batch, r, answers.get(r.image_id or "", {})) for r in new]
        return scores.scores_table(rows, self.package.classes)

    def take_note(self, table: pd.DataFrame) -> None:
        """Remember that these rows of the batch stand on the disk."""
        self._seen.add(table)

    def _is_known(self, reading: Reading) -> bool:
        """Tell whether a file needs no row: it is being written, or has one of this content or for this reason."""
        path, refused = reading.arrival.path, reading.refused
        is_refused_again = refused is not None and self._seen.has_refusal(path, refused.reason)
        return reading.is_changing or is_refused_again or self._seen.has_content(path, reading.image_id)

    def _read(self, arrivals: Sequence[Arrival]) -> Iterator[list[Reading]]:
        """Yield the readings step by step, as many steps ahead as there are processes for."""
        read = partial(read_film, size=self.package.size)
        steps = [arrivals[start : start + STEP] for start in range(0, len(arrivals), STEP)]
        pending = []
        for step in steps:
            pending.append(self._pool.map(read, step, chunksize=8))
            if len(pending) > self._n_ahead:
                yield list(pending.pop(0))
        for readings in pending:
            yield list(readings)

    def _answer(self, readings: Sequence[Reading]) -> dict[str, dict[str, object]]:
        """Return what the model says of films and what was measured of them, by image_id."""
        judged = zip(readings, self.judge.judge(readings), strict=True)
        return {reading.image_id or "": judgement.columns | reading.measures for reading, judgement in judged}
