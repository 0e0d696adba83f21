"""A scoring run, such as the nightly job: the champion scores every file that is new in the inbox, once.

A scoring run lists each batch, skips files that this version of the model has scored before, and scores the rest in
chunks. Each chunk becomes one part of the scores, written in one step, so a kill loses one chunk at most. Nothing in
the inbox is moved, renamed or deleted. A file that is not an image gets a row with the reason.

How images are decoded: on a CPU the forward pass uses every core, and decoding at the same time would only slow it
down, so all cores decode a step's images before the network runs. For a GPU, separate processes decode the next step's
images while the network runs (`--workers`). The rows depend on neither.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path

from cxr.config import ScoreConfig
from cxr.errors import ConfigError
from cxr.images.inbox import Arrival, Batch, batch_names, list_batch
from cxr.network.devices import resolve_device
from cxr.serving import scores
from cxr.serving.package import Package, load_package
from cxr.serving.registry import load_champion
from cxr.storage import events
from cxr.storage.model_folder import ModelFolder
from cxr.storage.scores_folder import BatchFolder, ScoresFolder, ScoringRunFolder

log = logging.getLogger(__name__)

CHUNK = 512
"""Images between two writes."""


@dataclass(frozen=True)
class ScoringRun:
    """Which version of a model scores which inbox, and when it started."""

    inbox: Path
    config: ScoreConfig
    version: str
    started_at: str
    n_images: int
    """New files that are not empty, to decide whether compiling pays off."""

    @property
    def scores(self) -> ScoresFolder:
        """Where the scores are."""
        return ScoresFolder.at(self.config.out)

    @property
    def folder(self) -> ScoringRunFolder:
        """Where the record and the report are."""
        return self.scores.scoring_run(self.started_at)

    def staged(self, batch: str) -> BatchFolder:
        """Return where a batch's parts are until the batch is published or held."""
        return self.scores.staged(self.config.name, self.version, batch)

    def part(self, batch: str, arrivals: Sequence[Arrival]) -> Path:
        """Return where the rows of a chunk of a batch are staged."""
        return self.staged(batch).part("\n".join([self.started_at, *(arrival.path for arrival in arrivals)]))

    def package(self) -> Package:
        """Return the model that scores."""
        return _package(self.config.models, self.config.name, self.version)


@lru_cache(maxsize=2)
def _package(models: Path, name: str, version: str) -> Package:
    return load_package(ModelFolder.named(models, name).version(version))


def open_scoring_run(inbox: Path, config: ScoreConfig) -> tuple[ScoringRun, list[Batch]]:
    """Start a scoring run; return it and every batch, with its new files only.

    Batches that a killed scoring run had decided on are first published or held as it had decided. Hold the lock of
    the scores while you call this.

    Args:
        inbox: folder of batches, one folder each; read, never changed.
        config: how to score, and where the scores go.

    Raises:
        ConfigError: the scores would be written into the inbox.
        DataError: the inbox cannot be listed.
        DeviceError: the device does not exist.
        PackageError: the model has no champion, or its files were changed.
    """
    inbox = inbox.expanduser().resolve()
    folder = ScoresFolder.at(config.out)
    if folder.path.is_relative_to(inbox):
        raise ConfigError(f"--out {str(config.out)!r} is inside the inbox, which is never written to: give another.")
    resolve_device(config.device)
    with events.stage(None, "open") as stage:
        version = load_champion(config.models, config.name).version
        scores.recover(folder, config.name, version)
        batches = []
        for name, path in batch_names(inbox).items():
            listed = list_batch(inbox, name, path, config.settle)
            batches.append(_only_new(listed, scores.Seen(folder, config.name, version, name)))
        started_at = _name_scoring_run(folder)
        stage.file = folder.scoring_run(started_at).events
        stage.n_images = sum(len(batch.arrivals) for batch in batches)
    n_images = sum(arrival.n_bytes > 0 for batch in batches for arrival in batch.arrivals)
    return ScoringRun(inbox, config, version, started_at, n_images), batches


def _only_new(batch: Batch, seen: scores.Seen) -> Batch:
    new = [file for file in batch.arrivals if not seen.has_file(file.path, file.n_bytes, file.changed_ns)]
    log.info(
        "batch %r: %d new files, %d seen before, %d still being copied",
        batch.name,
        len(new),
        len(batch.arrivals) - len(new),
        batch.n_waiting,
    )
    return Batch(batch.name, new, batch.n_waiting, batch.left_aside)


def _name_scoring_run(folder: ScoresFolder) -> str:
    """Return the time in UTC, or the next microsecond that no scoring run has as its name: clocks are set back."""
    moment = datetime.now(UTC)
    while folder.scoring_run(name := moment.strftime("%Y-%m-%dT%H-%M-%S-%fZ")).path.exists():
        moment += timedelta(microseconds=1)
    return name


def chunks(batch: Batch) -> list[list[Arrival]]:
    """Return the batch's new files in chunks that are written together."""
    return [batch.arrivals[start : start + CHUNK] for start in range(0, len(batch.arrivals), CHUNK)]
