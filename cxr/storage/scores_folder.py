"""The names of all files under `scores/`."""

import hashlib
import os
import re
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MAX_FOLDER_NAME = 200


SHORTENED = re.compile(r".*-[0-9a-f]{16}")


@dataclass(frozen=True)
class BatchFolder:
    """Where the parts of a batch lie that one version of a model has scored."""

    path: Path

    @property
    def decision(self) -> Path:
        return self.path / "decision.json"

    def part(self, key: str) -> Path:
        """Return the part of the chunk of films that a text stands for, always the same."""
        return self.path / f"part-{hashlib.sha256(os.fsencode(key)).hexdigest()[:32]}.parquet"

    def parts(self) -> list[Path]:
        return sorted(self.path.glob("part-*.parquet"))


@dataclass(frozen=True)
class NightFolder:
    """Where a run of the nightly job keeps its record: `scores/_nights/<when>/`."""

    path: Path

    @property
    def events(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def record(self) -> Path:
        return self.path / "night.json"

    @property
    def report(self) -> Path:
        return self.path / "report.html"


@dataclass(frozen=True)
class ScoresFolder:
    """Where scores stand: published ones as `scores/batch=<folder>/part-….parquet`, all else under a `_` name.

    Readers of Parquet data sets pass over names that begin with `_`, and `scores/batch=*/*.parquet` does not
    match them, so nobody takes for published what is not.
    """

    path: Path

    @property
    def lock(self) -> Path:
        return self.path / "_work" / "scores.lock"

    def night(self, started_at: str) -> NightFolder:
        """Return the folder of one night's record and report."""
        return NightFolder(self.path / "_nights" / started_at)

    def nights(self) -> list[NightFolder]:
        """Return the nights that left a record, the latest first."""
        records = sorted(self.path.glob("_nights/*/night.json"), reverse=True)
        return [NightFolder(record.parent) for record in records]

    def all_published(self) -> list[BatchFolder]:
        """Return the batches that readers see."""
        return [BatchFolder(folder) for folder in sorted(self.path.glob("batch=*"))]

    def published(self, batch: str) -> BatchFolder:
        return BatchFolder(self.path / _partition(batch))

    def staged(self, name: str, version: str, batch: str) -> BatchFolder:
        """Return where parts lie until the batch has been judged."""
        return BatchFolder(self.path / "_work" / "staged" / name / version / _partition(batch))

    def held(self, name: str, version: str, batch: str) -> BatchFolder:
        return BatchFolder(self.path / "_held" / name / version / _partition(batch))

    def destination(self, staged: BatchFolder, *, publish: bool) -> BatchFolder:
        """Return where staged parts belong once their batch has been judged."""
        version = staged.path.parent
        held = self.path / "_held" / version.parent.name / version.name
        return BatchFolder((self.path if publish else held) / staged.path.name)

    def all_staged(self, name: str) -> Iterator[tuple[str, BatchFolder]]:
        """Yield version and folder of everything staged for a model."""
        for folder in sorted((self.path / "_work" / "staged" / name).glob("*/*")):
            yield folder.parent.name, BatchFolder(folder)

    def all_held(self, batch: str | None = None) -> list[BatchFolder]:
        """Return what is held, of one batch or of all."""
        pattern = "*/*/*" if batch is None else f"*/*/{_partition(batch)}"
        return [BatchFolder(folder) for folder in sorted((self.path / "_held").glob(pattern))]


def _partition(batch: str) -> str:
    """Return a batch's folder name: `batch=` and its name, percent-encoded as Hive does, shortened where it is long."""
    name = urllib.parse.quote(batch, safe=" ()+,@-_.") if batch != "." else "%2E"
    if len(name) > MAX_FOLDER_NAME or SHORTENED.fullmatch(name):
        digest = hashlib.sha256(batch.encode()).hexdigest()[:16]
        name = re.sub(r"%[^%]?$", "", name[: MAX_FOLDER_NAME - 20]) + f"-{digest}"
        name = urllib.parse.quote(urllib.parse.unquote(name, errors="ignore"), safe=" ()+,@-_.")
    return f"batch={name}"
