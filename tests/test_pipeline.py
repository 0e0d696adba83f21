"""The plain core as a user starts it, where neither Prefect nor Great Expectations can be imported."""

import json
import logging
import signal
import socket
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from cxr.errors import RunError
from cxr.storage.run_folder import FoldFolder
from cxr.training.run import Run
from cxr.training.scheduling import train_fold, train_folds
from tests.support.disks import disk_of, resize_disk
from tests.support.processes import run_to_the_end, start_and_wait_for
from tests.support.runs import assert_same_tables, start_and_wait_for_epoch_2, train_command
from tests.support.secrets import SECRETS, assert_no_secret

LOG = logging.getLogger("test.cross_validation")
PLAIN = (sys.executable, "-m", "cxr")
Begin = Callable[..., Run]


@pytest.mark.faults
def test_the_plain_core_stopped_killed_and_started_twice_gives_the_flows_tables(
    undisturbed: Path, sample: Path, without_flows: dict[str, str], tmp_path: Path
) -> None:
    environment = without_flows | SECRETS
    command = train_command(sample, tmp_path, PLAIN)
    process, fold_pid = start_and_wait_for_epoch_2(0, command, tmp_path, environment)
    family = psutil.Process(process.pid).children(recursive=True)
    assert fold_pid in [member.pid for member in family]
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 143
    assert not any(member.is_running() for member in family)
    log = (tmp_path / "log").read_text()
    assert "fold 0: stopped after epoch" in log
    assert log.endswith("stopped: rerun the same command to resume\n")
    assert "it starts again" not in log
    assert "Traceback" not in log

    process, _ = start_and_wait_for_epoch_2(1, command, tmp_path, environment)
    process.kill()
    process.wait()
    assert "fold 0: resumed after epoch" in (tmp_path / "log").read_text()
    process = start_and_wait_for("fold 1: resumed after epoch", command, tmp_path, environment)
    process.send_signal(signal.SIGSTOP)  # it cannot end before the second command looks
    second = run_to_the_end(command, environment)
    process.send_signal(signal.SIGCONT)
    assert second.returncode == 2
    assert second.stderr.startswith(
        f"error: run run is in use by process {process.pid} on {socket.gethostname()} since"
    )
    assert second.stdout == ""
    assert process.wait(timeout=120) == 0, (tmp_path / "log").read_text()
    log = (tmp_path / "log").read_text()
    assert "fold 0: already complete" in log
    assert "checks   none: `cxr validate` checks the images" in log
    assert_same_tables(tmp_path, undisturbed)
    names = [{p.name for p in (folder / "experiments" / "run").iterdir()} for folder in (tmp_path, undisturbed)]
    assert names[1] - names[0] == {"checks"}
    assert_no_secret(tmp_path)
    assert "The data checks were not run" in (tmp_path / "experiments/run/report.html").read_text()


@pytest.mark.faults
def test_a_run_that_finds_the_disk_full_says_so_and_the_same_command_ends_with_the_same_tables(
    undisturbed: Path, sample: Path, without_flows: dict[str, str], tmp_path: Path
) -> None:
    command = train_command(sample, tmp_path, PLAIN)
    checkpoint = FoldFolder(tmp_path / "experiments/run/folds/fold=0").checkpoint
    with disk_of("400m", tmp_path / "experiments") as disk:  # one checkpoint has 270 MiB; the next needs as much beside
        full = run_to_the_end(command, without_flows)
        assert full.returncode == 2, full.stderr
        assert f"fold 0: no space is left to write '{checkpoint}'" in full.stderr.splitlines()[-1]
        assert "free some and type the same command again; nothing is lost" in full.stderr.splitlines()[-1]
        assert "Traceback" not in full.stderr
        assert checkpoint.exists()
        assert not list(disk.rglob(".*.tmp"))
        resize_disk(disk, "1200m")
        result = run_to_the_end(command, without_flows)
        assert result.returncode == 0, result.stderr
        assert "fold 0: resumed after epoch 1" in result.stderr
        assert_same_tables(tmp_path, undisturbed)


@pytest.mark.faults
def test_a_fold_that_fails_leaves_the_others_to_finish_and_is_named(begin: Begin) -> None:
    run = begin()
    run.folder.fold(0).checkpoint.mkdir(parents=True)
    with ThreadPoolExecutor(1) as pool, pytest.raises(RunError) as raised:
        train_folds(run, lambda fold, device: pool.submit(train_fold, run, fold, device, LOG), Future.exception)
    message = str(raised.value)
    assert message.startswith("1 of 2 folds failed, the others are finished and kept. fold 0: ")
    assert "checkpoint.pt' cannot be read (Is a directory)" in message
    assert "--redo-fold 0" in message
    assert run.is_complete(1)
    stages = [json.loads(line) for line in run.folder.events.read_text().splitlines()]
    outcomes = [(line["stage"], line["fold"], line["outcome"]) for line in stages if line["fold"] is not None]
    assert outcomes == [("train", 0, "failed"), ("train", 1, "done"), ("predict", 1, "done")]
