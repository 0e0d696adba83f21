import json
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cxr.errors import FoldFailedError, RunError
from cxr.storage import files, verified
from cxr.training.run import Run
from cxr.training.supervision import train_fold_in_child

Begin = Callable[..., Run]
LOG = logging.getLogger("test.supervision")


def test_a_fold_trained_in_a_child_reports_its_epochs(begin: Begin, caplog: pytest.LogCaptureFixture) -> None:
    run = begin()
    with caplog.at_level(logging.INFO, LOG.name):
        train_fold_in_child(run.folder.path, 0, "cpu", LOG)
    assert run.is_complete(0)
    epochs = [record for record in caplog.records if getattr(record, "bar", None) == "fold 0"]
    assert [(vars(record)["done"], vars(record)["of"]) for record in epochs] == [(1, 1)]
    assert not [r for r in caplog.records if r.name == LOG.name and r.levelno > logging.INFO]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_child_is_reported_by_its_signal(begin: Begin, number: signal.Signals) -> None:
    run = begin(epochs=1000)
    holder = run.folder.fold(0).lock.with_suffix(".json")

    def kill_when_it_trains() -> None:
        while not run.folder.fold(0).checkpoint.exists():
            time.sleep(0.1)
        os.kill(json.loads(holder.read_text())["pid"], number)

    threading.Thread(target=kill_when_it_trains, daemon=True).start()
    with pytest.raises(FoldFailedError, match=f"process of fold 0 was ended by {number.name}"):
        train_fold_in_child(run.folder.path, 0, "cpu", LOG)


def test_a_mistake_in_the_child_is_raised_with_its_sentence(begin: Begin) -> None:
    run = begin()
    files.write_json(run.folder.fold(0).checkpoint, {})
    with pytest.raises(RunError, match=r"^'.*checkpoint\.pt' is not verifiable.* --run-id run --redo-fold 0\.$"):
        train_fold_in_child(run.folder.path, 0, "cpu", LOG)


def test_a_child_that_crashes_is_reported_with_its_last_line(begin: Begin, tmp_path: Path) -> None:
    run = begin()
    verified.write_table(run.folder.manifest, files.read_table(run.folder.manifest).drop(columns="subtype"))
    with pytest.raises(FoldFailedError, match=r"process of fold 0 ended with exit code 1: .*subtype"):
        train_fold_in_child(run.folder.path, 0, "cpu", LOG)
