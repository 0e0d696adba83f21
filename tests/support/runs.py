"""Small runs on the drawn images, and how two of them are compared."""

import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path

import pandas as pd

from cxr.config import DataConfig, Execution, TrainConfig
from cxr.dataset.examination import examine
from cxr.evaluation.tables import evaluate
from cxr.storage.run_folder import FoldFolder, RunFolder
from cxr.training.beginning import begin_run
from cxr.training.run import Run
from cxr.training.trainer import train_fold
from tests.support.processes import BIN, start_and_wait_for, wait_for

Finished = Callable[..., Run]
"""Of the fixture `finished`."""
TABLES = ("metrics/predictions.parquet", "metrics/metrics.parquet", "metrics/summary.parquet", "folds.parquet")
PARAMETERS = {
    "preset": "quick",
    "weights": "none",
    "trainable": "all",
    "size": 32,
    "epochs": 4,
    "folds": 2,
    "batch_size": 16,
    "devices": "cpu",
}
"""Of a training in a process of its own, as flags and flow parameters."""
SMALL = {"preset": "quick", "weights": "none", "size": 32, "folds": 2, "epochs": 1, "batch_size": 16}
"""Of a training within a test."""


def train_command(
    sample: Path,
    folder: Path,
    program: Sequence[str] = (str(BIN / "cxr"),),
    experiments: str | None = None,
    **changed: object,
) -> list[str]:
    """Return the command of a small training on the drawn images, with some parameters changed.

    All but `experiments` goes into `folder`.
    """
    options = [f"--{name.replace('_', '-')}={value}" for name, value in (PARAMETERS | changed).items()]
    places = [f"--experiments={experiments or folder / 'experiments'}", f"--cache={folder / 'cache'}", "--run-id=run"]
    return [*program, "train", f"--data={sample}", *options, *places]


def start_and_wait_for_epoch_2(
    fold: int, command: list[str], folder: Path, environment: Mapping[str, str]
) -> tuple[subprocess.Popen[bytes], int]:
    """Start a training; return its process and the fold's process id, once it has two epochs and a checkpoint."""
    process = start_and_wait_for(f"fold {fold}: epoch 2 of 4", command, folder, environment)
    begun = FoldFolder(folder / "experiments" / "run" / "folds" / f"fold={fold}")
    wait_for(begun.checkpoint.exists, "the checkpoint, which is written during the next epoch")
    return process, json.loads(begun.lock.with_suffix(".json").read_text())["pid"]


def assert_same_tables(left: Path, right: Path) -> None:
    """Assert that the runs under two folders have the same tables, bit for bit."""
    for name in TABLES:
        tables = [pd.read_parquet(folder / "experiments" / "run" / name) for folder in (left, right)]
        pd.testing.assert_frame_equal(*tables, check_exact=True)


def small_config(sample: Path, **changed: object) -> TrainConfig:
    """Return the config of a tiny run on the drawn images, with some fields changed."""
    return TrainConfig(**({"data": str(sample)} | SMALL | changed))


def is_examined_alike(config: TrainConfig, other: TrainConfig) -> bool:
    """Return whether two configs ask for the same images, folds and squares."""
    names = [*(field.name for field in fields(DataConfig)), "size"]
    return all(getattr(config, name) == getattr(other, name) for name in names)


def finish_run(place: Path, run_id: str, config: TrainConfig) -> Run:
    """Train a run to its end in this process; `experiments` and `cache` lie in `place`."""
    folder = RunFolder.named(place / "experiments", run_id)
    examine(config, folder, cache=place / "cache", size=config.size)
    run = begin_run(config, folder, Execution(cache=place / "cache", devices="cpu"))
    for fold in range(config.folds):
        train_fold(run, fold, "cpu")
    evaluate(run)
    return run
