"""The names of all files under `scores/`."""

import hashlib
import os
import re
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cxr.errors import FormatError

MAX_FOLDER_NAME = 200


SHORTENED = re.compile(r".*-[0-9a-f]{16}")


@dataclass(frozen=True)
class BatchFolder:
    """The parts of a batch: scores that a version of a model gave to chunks of its images."""

    path: Path

    @property
    def decision(self) -> Path:
        return self.path / "decision.json"

    def part(self, key: str) -> Path:
        """Return the file of the part with this key; equal keys give equal names."""
        return self.path / f"part-{hashlib.sha256(os.fsencode(key)).hexdigest()[:32]}.parquet"

    def parts(self) -> list[Path]:
        return sorted(self.path.glob("part-*.parquet"))


@dataclass(frozen=True)
class ScoringRunFolder:
    """The record of a scoring run: `scores/_scoring_runs/<when>/`."""

    path: Path

    @property
    def events(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def record(self) -> Path:
        return self.path / "scoring_run.json"

    @property
    def report(self) -> Path:
        return self.path / "report.html"


@dataclass(frozen=True)
class FeedbackFolder:
    """The labels that came after the scores of a model, and what they say: `scores/_feedback/<name>/`.

    Its tables lie deeper than `scores/*/*.parquet` reaches.
    """

    path: Path

    @property
    def lock(self) -> Path:
        return self.path / "feedback.lock"

    @property
    def events(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def verdicts(self) -> Path:
        return self.path / "verdicts.parquet"

    @property
    def performance(self) -> Path:
        return self.path / "performance.parquet"

    @property
    def looks(self) -> Path:
        return self.path / "looks.parquet"

    @property
    def unmatched(self) -> Path:
        return self.path / "unmatched.parquet"

    def labels(self, entry: int) -> Path:
        """Return the file of the labels that were entered together, numbered from 1."""
        return self.path / "labels" / f"part-{entry:06}.parquet"

    def all_labels(self) -> list[Path]:
        """Return the files of labels, in the order in which they were entered."""
        return sorted(self.path.glob("labels/part-*.parquet"))

    def next_entry(self) -> int:
        """Return the number of the next labels: one more than the last."""
        numbers = [int(file.stem.removeprefix("part-")) for file in self.all_labels()]
        return 1 + max(numbers, default=0)


@dataclass(frozen=True)
class ScoresFolder:
    """All scores: published ones as `scores/<batch>/part-….parquet`, everything else under a name that begins with `_`.

    Readers of Parquet data sets skip names that begin with `_`, and `scores/*/*.parquet` does not match files two
    folders further down, so no reader takes held or staged scores for published ones.
    """

    path: Path

    @classmethod
    def at(cls, out: Path) -> "ScoresFolder":
        """Return the folder of the scores at a user's path, whether it exists or not.

        Raises:
            FormatError: an older version of cxr wrote it.
        """
        path = out.expanduser().resolve()
        if any(path.glob("batch=*")) or (path / "_nights").exists():
            raise FormatError(
                f"scores folder {str(path)!r} was written by cxr 0.1, in a layout that this version does not read: "
                "give another --out."
            )
        return cls(path)

    @property
    def lock(self) -> Path:
        return self.path / "_work" / "scores.lock"

    def package_hash(self, name: str, version: str) -> Path:
        """Return the file that says which package a version of a model is in these scores."""
        return self.path / "_models" / name / f"{version}.sha256"

    def known_contents(self, batch: str) -> Path:
        """Return the table of which content each file of a batch had when it was last read."""
        return self.path / "_work" / "contents" / f"{_folder_name(batch)}.parquet"

    def scoring_run(self, started_at: str) -> ScoringRunFolder:
        """Return the folder of one scoring run's record and report."""
        return ScoringRunFolder(self.path / "_scoring_runs" / started_at)

    def scoring_runs(self) -> list[ScoringRunFolder]:
        """Return the scoring runs that have a record, the latest first."""
        records = sorted(self.path.glob("_scoring_runs/*/scoring_run.json"), reverse=True)
        return [ScoringRunFolder(record.parent) for record in records]

    def feedback(self, name: str) -> FeedbackFolder:
        """Return the folder of the labels that came after the scores of a model."""
        return FeedbackFolder(self.path / "_feedback" / name)

    def all_feedback(self) -> dict[str, FeedbackFolder]:
        """Return the folders of models of which labels were judged, by the model's name."""
        verdicts = sorted(self.path.glob("_feedback/*/verdicts.parquet"))
        return {file.parent.name: FeedbackFolder(file.parent) for file in verdicts}

    def all_published(self) -> list[BatchFolder]:
        """Return the batches that are published."""
        return [BatchFolder(folder) for folder in sorted(self.path.glob("[!_.]*"))]

    def published(self, batch: str) -> BatchFolder:
        return BatchFolder(self.path / _folder_name(batch))

    def staged(self, name: str, version: str, batch: str) -> BatchFolder:
        """Return the folder of a batch's parts until its checks decide where they go."""
        return BatchFolder(self.path / "_work" / "staged" / name / version / _folder_name(batch))

    def held(self, name: str, version: str, batch: str) -> BatchFolder:
        return BatchFolder(self.path / "_held" / name / version / _folder_name(batch))

    def destination(self, staged: BatchFolder, *, publish: bool) -> BatchFolder:
        """Return the folder to which staged parts move once the checks have decided."""
        version = staged.path.parent
        held = self.path / "_held" / version.parent.name / version.name
        return BatchFolder((self.path if publish else held) / staged.path.name)

    def all_staged(self, name: str) -> Iterator[tuple[str, BatchFolder]]:
        """Yield the version and the folder of each batch that is staged for a model."""
        for folder in sorted((self.path / "_work" / "staged" / name).glob("*/*")):
            yield folder.parent.name, BatchFolder(folder)

    def all_held(self, batch: str | None = None) -> list[BatchFolder]:
        """Return the held parts' folders, of one batch or of all."""
        pattern = "*/*/*" if batch is None else f"*/*/{_folder_name(batch)}"
        return [BatchFolder(folder) for folder in sorted((self.path / "_held").glob(pattern))]


def _folder_name(batch: str) -> str:
    """Return a batch's folder name: percent-encoded, so that it is never hidden, and shortened if it is long."""
    name = urllib.parse.quote(batch, safe=" ()+,@-_.")
    if name[0] in "._":
        name = f"%{ord(name[0]):02X}{name[1:]}"
    if len(name) > MAX_FOLDER_NAME or SHORTENED.fullmatch(name):
        digest = hashlib.sha256(batch.encode()).hexdigest()[:16]
        name = re.sub(r"%[^%]?$", "", name[: MAX_FOLDER_NAME - 20]) + f"-{digest}"
        name = urllib.parse.quote(urllib.parse.unquote(name, errors="ignore"), safe=" ()+,@-_.")
    return name
