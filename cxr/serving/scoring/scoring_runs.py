"""A scoring run, such as the nightly job: the champion scores every file that is new in the inbox, once.

A scoring run lists each batch, skips files whose content this version of the model has scored before under the same
path, and scores the rest in chunks. Each chunk becomes one part of the scores, written in one step, so a kill loses
one chunk at most. Nothing in the inbox is moved, renamed or deleted. A file that is not an image gets a row with the
reason.

A file is known by its content. Its size, times and inode only save reading it again while all of them stay the same: a
file that is touched or copied back gets no second row, and one that is replaced gets its own, whatever its times say.

How images are decoded in one process: on a CPU the forward pass uses every core, and decoding at the same time would
only slow it down, so all cores decode a step's images before the network runs. For a GPU, separate processes decode the
next step's images while the network runs (`--workers`). The rows depend on neither.
"""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path

import pandas as pd

from cxr.config import ScoreConfig
from cxr.errors import ConfigError, UnreadableError
from cxr.images.batches import batch_names, list_batch
from cxr.images.inbox import Arrival, Batch, read_arrival
from cxr.images.reading import image_id_of
from cxr.serving.package import Package, load_package
from cxr.serving.registry import load_champion
from cxr.serving.scoring import scores
from cxr.serving.scoring.scores import Seen
from cxr.storage import events, files, object_store
from cxr.storage.content_index import ContentIndex
from cxr.storage.files import read_table
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
    model: str
    """The name that the package carries, and the rows too; `config.name` may be a link to its folder."""
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
        return self.scores.staged(self.model, self.version, batch)

    def seen(self, batch: str) -> Seen:
        """Return what this version of the model has scored of a batch."""
        return Seen(self.scores, self.model, self.version, batch)

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

    Batches that a killed scoring run had decided on are first published or held as it had decided. A batch that it had
    begun to score is returned even if its folder has left the inbox since. Hold the lock of the scores while you call
    this.

    Args:
        inbox: folder of batches, one folder each, or its URL in an object store; read, never changed.
        config: how to score, and where the scores go.

    Raises:
        ConfigError: the scores would be written into the inbox, or the store of the inbox cannot be reached.
        DataError: the inbox cannot be listed.
        DeviceError: the device does not exist.
        PackageError: the model has no champion, its files were changed, its folder was copied or renamed, or its
            version is another package in these scores.
    """
    inbox = files.located(inbox.expanduser())
    folder = ScoresFolder.at(config.out)
    if not object_store.is_object(inbox) and folder.path.is_relative_to(inbox):
        raise ConfigError(f"--out {str(config.out)!r} is inside the inbox, which is never written to: give another.")
    if config.device != "auto":
        _require_device(config.device)
    with events.stage(None, "open") as stage:
        package = load_champion(config.models, config.name)
        scores.claim(folder, package)
        scores.recover(folder, package.name, package.version)
        run = ScoringRun(inbox, config, package.name, package.version, _name_scoring_run(folder), n_images=0)
        listed = {name: list_batch(inbox, name, path, config.settle) for name, path in batch_names(inbox).items()}
        gone = {name: Batch(name, [], 0, {}) for name in scores.staged_batches(folder, package.name)}
        batches = [_only_new(run, batch) for batch in (gone | listed).values()]
        stage.file = run.folder.events
        stage.n_images = sum(len(batch.arrivals) for batch in batches)
    n_images = sum(arrival.n_bytes > 0 for batch in batches for arrival in batch.arrivals)
    return replace(run, n_images=n_images), batches


def _require_device(device: str) -> None:
    """Raise DeviceError unless the device exists."""
    from cxr.network.devices import resolve_device  # and torch, a second that a night without new images does not need

    resolve_device(device)


def _only_new(run: ScoringRun, batch: Batch) -> Batch:
    """Return a batch without the files that have a row for their content, or for the reason why they cannot be read."""
    seen = run.seen(batch.name)
    index = ContentIndex(run.scores.known_contents(batch.name))
    index.keep((file.path, file.signature) for file in batch.arrivals)
    new = [file for file in batch.arrivals if not (seen.has_path(file.path) and _is_known(file, seen, index))]
    index.save()
    log.info(
        "batch %r: %d new files, %d seen before, %d still being copied",
        batch.name,
        len(new),
        len(batch.arrivals) - len(new),
        batch.n_waiting,
    )
    return Batch(batch.name, new, batch.n_waiting, batch.left_aside)


def _is_known(file: Arrival, seen: Seen, index: ContentIndex) -> bool:
    """Return whether a file has a row as it is now; read it, if it changed in any way since it was last read."""
    image_id = index.get(file.path, file.signature)
    if image_id is None:
        try:
            image_id = image_id_of(read_arrival(file))
        except UnreadableError as error:
            return seen.has_refusal(file.path, None, error.reason)
        index.add(file.path, file.signature, image_id)
    return seen.has_content(file.path, image_id)


def remember_contents(run: ScoringRun, batch: Batch) -> None:
    """Note which content the files of a batch had that this scoring run has read, for the next one's sake."""
    index = ContentIndex(run.scores.known_contents(batch.name))
    n_files = Counter(file.path for file in batch.arrivals)  # names that print alike have one path
    for chunk in chunks(batch):
        part = run.part(batch.name, chunk)
        rows = read_table(part, ["path", "image_id"]).dropna() if part.exists() else pd.DataFrame(columns=["path"])
        contents = dict(rows.itertuples(index=False))
        for file in chunk:
            if file.path in contents and n_files[file.path] == 1:
                index.add(file.path, file.signature, contents[file.path])
    index.save()


def _name_scoring_run(folder: ScoresFolder) -> str:
    """Return the time in UTC, or the next microsecond that no scoring run has as its name: clocks are set back."""
    moment = datetime.now(UTC)
    while folder.scoring_run(name := moment.strftime("%Y-%m-%dT%H-%M-%S-%fZ")).path.exists():
        moment += timedelta(microseconds=1)
    return name


def chunks(batch: Batch) -> list[list[Arrival]]:
    """Return the batch's new files in chunks that are written together."""
    return [batch.arrivals[start : start + CHUNK] for start in range(0, len(batch.arrivals), CHUNK)]
