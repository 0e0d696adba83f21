"""The nightly job: what is new in the inbox goes through the champion, once.

A scoring run lists each batch, leaves out what this version of the model has scored before, and goes through the
rest in chunks; each chunk is a part of the scores, written in one step, so a kill costs one chunk at most.
Nothing of the inbox is moved, renamed or deleted. A file that is no image has a row with the reason.

How images are decoded. On a CPU the forward pass uses every core, and decoding beside it would only get in its
way: a step's images are decoded by all cores, then the network runs. In front of a GPU, processes decode the
next step's images while the network runs (`--workers`). Rows do not depend on the number of either.
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
    """One run of the job: which model scores which inbox."""

    inbox: Path
    config: ScoreConfig
    version: str
    started_at: str
    n_images: int
    """Files that are new and not empty; what compiling has to be repaid by."""

    @property
    def scores(self) -> ScoresFolder:
        """Where the scores stand."""
        return ScoresFolder.at(self.config.out)

    @property
    def folder(self) -> ScoringRunFolder:
        """Where the record and the report of this run stand."""
        return self.scores.scoring_run(self.started_at)

    def staged(self, batch: str) -> BatchFolder:
        """Return where the batch's parts lie until it has been judged."""
        return self.scores.staged(self.config.name, self.version, batch)

    def part(self, batch: str, arrivals: Sequence[Arrival]) -> Path:
        """Return where the rows of a chunk of the batch's images are staged."""
        return self.staged(batch).part("\n".join([self.started_at, *(arrival.path for arrival in arrivals)]))

    def package(self) -> Package:
        """Return the model that scores in this run."""
        return _package(self.config.models, self.config.name, self.version)


@lru_cache(maxsize=2)
def _package(models: Path, name: str, version: str) -> Package:
    return load_package(ModelFolder.named(models, name).version(version))


def open_scoring_run(inbox: Path, config: ScoreConfig) -> tuple[ScoringRun, list[Batch]]:
    """Return in this run's job and every batch, each with the files that are new; finish what a killed run had decided.

    Call it under the lock of the scores.

    Args:
        inbox: folder of batches, one folder each; read, never changed.

    Raises:
        ConfigError: the scores would lie in the inbox.
        DataError: the inbox cannot be listed.
        DeviceError: the device is not there.
        PackageError: the model has no champion, or its files were changed.
    """
    inbox, folder = inbox.expanduser().resolve(), ScoresFolder.at(config.out)
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
            log.info(
                "batch %r: %d new files, %d seen before, %d still being copied",
                name,
                len(new),
                len(batch.arrivals) - len(new),
                batch.n_waiting,
            )
        started = _name_scoring_run(folder)
        stage.file, stage.n_images = folder.scoring_run(started).events, sum(len(batch.arrivals) for batch in batches)
    n_images = sum(arrival.n_bytes > 0 for batch in batches for arrival in batch.arrivals)
    return ScoringRun(inbox, config, package.version, started, n_images), batches


def _name_scoring_run(folder: ScoresFolder) -> str:
    """Return the moment in UTC, or the next that no scoring run is named after: the clock may have been set back."""
    moment = datetime.now(UTC)
    while folder.scoring_run(name := moment.strftime("%Y-%m-%dT%H-%M-%S-%fZ")).path.exists():
        moment += timedelta(microseconds=1)
    return name


def chunks(batch: Batch) -> list[list[Arrival]]:
    """Return the batch's new files in portions that are written together."""
    return [batch.arrivals[start : start + CHUNK] for start in range(0, len(batch.arrivals), CHUNK)]
