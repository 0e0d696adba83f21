"""Names, atomic writes and locks of everything that a run keeps on disk.

No other module knows a file name under `experiments/`. A reader never sees half a file: writers fill a
temporary name beside the target, flush it to the disk and rename it. A unit of work is finished when its
`complete.json` stands, and that is written last. Locks belong to a process and die with it.
"""

import json
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock, Timeout

from cxr.errors import ConfigError, RunError

RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path; once filled it takes the place of `path` in one step, or nothing changes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep(folder: Path) -> None:
    """Remove the temporary files that a killed process left under `folder`; call it under the lock."""
    for leftover in folder.rglob(".*.tmp"):
        leftover.unlink(missing_ok=True)


def write_json(path: Path, value: object) -> None:
    """Write `value` as indented JSON."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Return the object that `write_json` wrote."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_text(path: Path, text: str) -> None:
    """Write `text` in UTF-8."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write `table` as Parquet, without its index."""
    with replacing(path) as temporary:
        table.to_parquet(temporary, index=False)


def read_table(path: Path) -> pd.DataFrame:
    """Return the table that `write_table` wrote."""
    return pd.read_parquet(path)


def now() -> str:
    """Return the time in UTC, to the second, as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@contextmanager
def locked(lock_file: Path, what: str, *, patience_s: float = 0.0) -> Iterator[None]:
    """Hold `lock_file` for this process; a process that dies lets go.

    Args:
        lock_file: made if it is missing; the holder's name stands beside it.
        what: what is being held, for the error, such as "run real64".
        patience_s: how long to wait for another holder before giving up.

    Raises:
        RunError: another living process holds it; the sentence names that process.
    """
    lock_file.parent.mkdir(parents=True, exist_ok=True)
    holder = lock_file.with_suffix(".json")
    try:
        with FileLock(lock_file, timeout=patience_s):
            write_json(holder, {"pid": os.getpid(), "host": socket.gethostname(), "since": now()})
            yield
    except Timeout:
        who = read_json(holder) if holder.exists() else {}
        raise RunError(
            f"{what} is in use by process {who.get('pid', '?')} on {who.get('host', '?')} "
            f"since {who.get('since', '?')}: wait for it to end, or stop it."
        ) from None


@dataclass(frozen=True)
class FoldFolder:
    """Where one fold keeps its files."""

    path: Path

    @property
    def weights(self) -> Path:
        return self.path / "weights.safetensors"

    @property
    def epochs(self) -> Path:
        return self.path / "epochs.parquet"

    @property
    def predictions(self) -> Path:
        return self.path / "predictions.parquet"

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoint.pt"

    @property
    def complete(self) -> Path:
        return self.path / "complete.json"

    @property
    def lock(self) -> Path:
        return self.path / ".lock"

    def is_complete(self, config_hash: str) -> bool:
        """Tell whether the fold was finished under the config with this hash."""
        return self.complete.exists() and read_json(self.complete)["config_hash"] == config_hash


@dataclass(frozen=True)
class RunFolder:
    """Where a run keeps its files: `experiments/<run_id>/`."""

    path: Path

    @classmethod
    def named(cls, experiments: Path, run_id: str) -> "RunFolder":
        """Return the folder of run `run_id`, there or not; refuse an id that is no plain folder name."""
        if not RUN_ID.fullmatch(run_id):
            raise ConfigError(
                f"--run-id must be letters, digits, '.', '_' or '-', 80 at most and no '.' first, got {run_id!r}."
            )
        return cls((experiments / run_id).resolve())

    @classmethod
    def existing(cls, run: str, experiments: Path) -> "RunFolder":
        """Return the run called `run`, which is its id or the path of its folder."""
        for path in (experiments / run, Path(run)):
            if cls(path).has_begun:
                return cls(path.resolve())
        raise RunError(f"no run {run!r} in {experiments}: give a run id from there, or the path of a run's folder.")

    @property
    def run_id(self) -> str:
        return self.path.name

    @property
    def lock(self) -> Path:
        return self.path.parent / ".locks" / f"{self.run_id}.lock"

    @property
    def config(self) -> Path:
        return self.path / "config.json"

    @property
    def has_begun(self) -> bool:
        """The config is written last, after the data have passed their checks."""
        return self.config.exists()

    @property
    def manifest(self) -> Path:
        return self.path / "manifest.parquet"

    @property
    def near_duplicates(self) -> Path:
        return self.path / "near_duplicates.parquet"

    @property
    def data(self) -> Path:
        return self.path / "data.json"

    @property
    def folds(self) -> Path:
        return self.path / "folds.parquet"

    @property
    def certificate(self) -> Path:
        return self.path / "leakage_certificate.json"

    @property
    def predictions(self) -> Path:
        return self.path / "metrics" / "predictions.parquet"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics" / "metrics.parquet"

    @property
    def summary(self) -> Path:
        return self.path / "metrics" / "summary.parquet"

    @property
    def confusion(self) -> Path:
        return self.path / "metrics" / "confusion.parquet"

    @property
    def checks(self) -> Path:
        return self.path / "checks"

    @property
    def expectations(self) -> Path:
        return self.checks / "expectations.parquet"

    @property
    def confounders(self) -> Path:
        return self.checks / "confounders.parquet"

    @property
    def checks_report(self) -> Path:
        return self.checks / "report.html"

    def verdict(self, table: str) -> Path:
        """Return what the data checks found about a table."""
        return self.checks / f"{table}.json"

    def fold(self, fold: int) -> FoldFolder:
        """Return the folder of one fold."""
        return FoldFolder(self.path / "folds" / f"fold={fold}")

    def forget_fold(self, fold: int) -> None:
        """Remove what a fold has computed, completion marker first, so that it is trained anew.

        Raises:
            RunError: another process trains the fold.
        """
        folder = self.fold(fold)
        with locked(folder.lock, f"fold {fold} of run {self.run_id}"):
            for file in (folder.complete, folder.checkpoint, folder.predictions, folder.epochs, folder.weights):
                file.unlink(missing_ok=True)
