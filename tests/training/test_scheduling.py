import threading
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from cxr.classes import Classes
from cxr.config import TrainConfig
from cxr.errors import FoldFailedError, RunError
from cxr.storage.run_folder import RunFolder
from cxr.training.run import Run
from cxr.training.scheduling import train_folds


def planned(devices: list[str], folds: int = 5) -> Run:
    """A run of which nothing is on disk: all that handing out its folds needs."""
    config = TrainConfig(data="images", folds=folds)
    folder, cache = RunFolder(Path("run")), Path("cache")
    return Run(folder, config, {}, Classes(("A", "B")), cache, devices, n_threads=[1] * folds, compile="off")


def test_each_fold_is_trained_once_and_no_device_has_two_at_a_time() -> None:
    trained, busy, crowded, lock = [], Counter(), [], threading.Lock()

    def train(fold: int, device: str) -> None:
        with lock:
            trained.append(fold)
            busy[device] += 1
            crowded.extend(name for name, n_folds in busy.items() if n_folds > 1)
        time.sleep(0.01 * (fold % 3))
        with lock:
            busy[device] -= 1

    with ThreadPoolExecutor(5) as pool:
        train_folds(planned(["cuda:0", "cuda:1"]), lambda *slot: pool.submit(train, *slot), Future.exception)
    assert sorted(trained) == [0, 1, 2, 3, 4]
    assert crowded == []


def failing(causes: dict[int, Exception]) -> BaseException:
    """The error that a run ends with whose folds fail so."""

    def train(fold: int, device: str) -> None:
        if fold in causes:
            raise causes[fold]

    with ThreadPoolExecutor(1) as pool, pytest.raises((RunError, FoldFailedError)) as raised:
        train_folds(planned(["cpu"]), lambda *slot: pool.submit(train, *slot), Future.exception)
    return raised.value


def test_folds_that_fail_alike_are_named_together_and_one_crash_makes_it_no_mistake() -> None:
    error = failing({1: RunError("the disk is full."), 2: FoldFailedError("a crash"), 4: RunError("the disk is full.")})
    assert isinstance(error, FoldFailedError)
    assert str(error) == (
        "3 of 5 folds failed, the others are finished and kept. folds 1, 4: the disk is full; fold 2: a crash. "
        "The same command goes on from here."
    )


def test_a_run_of_which_every_fold_meets_a_mistake_is_a_mistake() -> None:
    error = failing({fold: RunError("no such file") for fold in range(5)})
    assert isinstance(error, RunError)
    assert str(error).startswith("5 of 5 folds failed, nothing finished is lost. folds 0, 1, 2, 3, 4: no such file.")
