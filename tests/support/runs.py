"""Small runs on the drawn images, and how two of them are compared."""

import functools
import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from cxr.config import Execution, TrainConfig
from cxr.dataset.examination import examine
from cxr.evaluation.tables import evaluate
from cxr.storage.run_folder import RunFolder
from cxr.training.run import Run, begin_run
from cxr.training.trainer import train_fold
from tests.support.processes import BIN, start_and_wait_for

TABLES = ("metrics/predictions.parquet", "metrics/metrics.parquet", "metrics/summary.parquet", "folds.parquet")
PARAMETERS = {
    "weights": "none",
    "trainable": "all",
    "size": 32,
    "epochs": 4,
    "folds": 2,
    "batch_size": 16,
    "devices": "cpu",
}


def train_command(
    sample: Path, folder: Path, program: Sequence[str] = (str(BIN / "cxr"),), experiments: str | None = None
) -> list[str]:
    """Return the command of a small training on the drawn images; all but `experiments` goes into `folder`."""
    options = [f"--{name.replace('_', '-')}={value}" for name, value in PARAMETERS.items()]
    places = [f"--experiments={experiments or folder / 'experiments'}", f"--cache={folder / 'cache'}", "--run-id=run"]
    return [*program, "train", f"--data={sample}", *options, *places]


def start_and_wait_for_epoch_2(
    fold: int, command: list[str], folder: Path, environment: Mapping[str, str]
) -> tuple[subprocess.Popen[bytes], int]:
    """Start a training; return its process and the process id of the fold once it is in its third epoch."""
    process = start_and_wait_for(f"fold {fold}: epoch 2 of 4", command, folder, environment)
    holder = folder / "experiments" / "run" / "folds" / f"fold={fold}" / ".lock.json"
    return process, json.loads(holder.read_text())["pid"]


def assert_same_tables(left: Path, right: Path) -> None:
    """Assert that the runs under two folders have the same tables, bit for bit."""
    for name in TABLES:
        tables = [pd.read_parquet(folder / "experiments" / "run" / name) for folder in (left, right)]
        pd.testing.assert_frame_equal(*tables, check_exact=True)


@functools.cache
def finished_run(sample: Path, **fields: object) -> Run:
    """Train a tiny run on the drawn images to its end, once for all tests; do not write into it."""
    place = sample.parent / "finished"
    small = {"data": str(sample), "weights": "none", "trainable": "all", "size": 32, "folds": 2, "epochs": 1}
    config = TrainConfig(**(small | {"batch_size": 16} | fields))
    folder = RunFolder.named(place / "experiments", f"{config.trainable}-{config.label_from}-{config.holdout}")
    examine(config, folder, cache=place / "cache", size=config.size)
    run = begin_run(config, folder, Execution(cache=place / "cache", devices="cpu"))
    for fold in range(config.folds):
        train_fold(run, fold, "cpu")
    evaluate(run)
    return run
