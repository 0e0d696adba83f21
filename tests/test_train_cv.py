"""The flow with nothing imitated: real processes, killed for real, a real Prefect server and worker."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import psutil
import pytest

from tests.conftest import wait_for

BIN = Path(sys.executable).parent
PROJECT = Path(__file__).parents[1]
TABLES = ("metrics/predictions.parquet", "metrics/metrics.parquet", "metrics/summary.parquet", "folds.parquet")
PARAMETERS = {
    "weights": "none", "trainable": "all", "size": 32, "epochs": 4, "folds": 2, "batch_size": 16, "devices": "cpu",
}  # fmt: skip


def train_command(sample: Path, folder: Path) -> list[str]:
    options = [f"--{name.replace('_', '-')}={value}" for name, value in PARAMETERS.items()]
    places = [f"--experiments={folder / 'experiments'}", f"--cache={folder / 'cache'}", "--run-id=run"]
    return [str(BIN / "cxr"), "train", f"--data={sample}", *options, *places]


def train(sample: Path, folder: Path, server: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = train_command(sample, folder)
    return subprocess.run(command, env=server, capture_output=True, text=True, timeout=400, check=False)


def tables(folder: Path) -> list[pd.DataFrame]:
    return [pd.read_parquet(folder / "experiments" / "run" / name) for name in TABLES]


def assert_same_tables(left: Path, right: Path) -> None:
    for one, other in zip(tables(left), tables(right), strict=True):
        pd.testing.assert_frame_equal(one, other, check_exact=True)


@pytest.fixture(scope="module")
def undisturbed(sample: Path, server: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nobody has killed, and what it printed in `stdout`."""
    folder = tmp_path_factory.mktemp("undisturbed")
    result = train(sample, folder, server)
    assert result.returncode == 0, result.stderr
    (folder / "stdout").write_text(result.stdout)
    return folder


def test_the_command_ends_with_metrics_the_tables_and_a_query(undisturbed: Path) -> None:
    out = (undisturbed / "stdout").read_text()
    run = undisturbed / "experiments" / "run"
    for words in ("roc_auc", "mean ± sd", "97.5", "not a medical device", f"tables   {run / 'metrics'}"):
        assert words in out
    assert "\x1b" not in out, "colours belong on a terminal"
    query = re.search(r'duckdb -c "(.*)"', out)
    assert query is not None
    import duckdb

    assert "accuracy" in dict(duckdb.sql(query[1]).fetchall())


def start_and_wait_for_epoch_2(fold: int, sample: Path, folder: Path, server: dict[str, str]) -> tuple:
    """Start `cxr train`; return its process and the process id of the fold once it is in its third epoch."""
    with (folder / "log").open("w") as log:
        command = train_command(sample, folder)
        process = subprocess.Popen(command, env=server, stdout=log, stderr=log, start_new_session=True)
    line = f"fold {fold}: epoch 2 of 4"
    wait_for(lambda: line in (folder / "log").read_text() or process.poll() is not None, line)
    assert process.poll() is None, (folder / "log").read_text()
    holder = folder / "experiments" / "run" / "folds" / f"fold={fold}" / ".lock.json"
    return process, json.loads(holder.read_text())["pid"]


def is_alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


def test_a_killed_fold_process_fails_its_own_task_and_is_resumed_by_the_retry(
    undisturbed: Path, sample: Path, server: dict[str, str], tmp_path: Path
) -> None:
    process, fold_pid = start_and_wait_for_epoch_2(0, sample, tmp_path, server)
    os.kill(fold_pid, signal.SIGKILL)
    assert process.wait(timeout=300) == 0
    log = (tmp_path / "log").read_text()
    assert "process of fold 0 was ended by SIGKILL" in log
    assert "fold 0: taken up again after epoch" in log
    assert_same_tables(tmp_path, undisturbed)


@pytest.mark.parametrize("killed", ["the flow", "the flow and the fold"])
def test_the_same_command_finishes_what_a_kill_left_and_redoes_no_finished_fold(
    killed: str, undisturbed: Path, sample: Path, server: dict[str, str], tmp_path: Path
) -> None:
    process, fold_pid = start_and_wait_for_epoch_2(1, sample, tmp_path, server)
    finished = tmp_path / "experiments" / "run" / "folds" / "fold=0" / "complete.json"  # one device: 0 comes first
    before = finished.stat().st_mtime_ns
    process.kill()
    process.wait()
    if killed == "the flow and the fold":
        os.kill(fold_pid, signal.SIGKILL)
    wait_for(lambda: not is_alive(fold_pid), "the fold's process to end with its parent", timeout_s=20)
    result = train(sample, tmp_path, server)
    assert result.returncode == 0, result.stderr
    assert "fold 0: complete already" in result.stderr
    assert "fold 1: taken up again after epoch" in result.stderr
    assert finished.stat().st_mtime_ns == before
    assert_same_tables(tmp_path, undisturbed)


def test_ctrl_c_ends_a_run_at_once_with_all_its_processes_and_the_same_command_goes_on(
    undisturbed: Path, sample: Path, server: dict[str, str], tmp_path: Path
) -> None:
    embedded = {name: value for name, value in server.items() if name != "PREFECT_API_URL"}
    embedded |= {"PREFECT_HOME": str(tmp_path / "prefect")}
    process, _ = start_and_wait_for_epoch_2(0, sample, tmp_path, embedded)
    family = psutil.Process(process.pid).children(recursive=True)
    assert len(family) >= 2, "the embedded server and the fold"
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    assert process.wait(timeout=20) == 130
    assert not any(one.is_running() for one in family)
    log = (tmp_path / "log").read_text()
    assert log.endswith("stopped: the same command goes on from here\n")
    assert "Traceback" not in log
    result = train(sample, tmp_path, server)
    assert result.returncode == 0, result.stderr
    assert "fold 0: taken up again after epoch" in result.stderr
    assert_same_tables(tmp_path, undisturbed)


def test_a_mistake_ends_a_flow_with_one_sentence_and_code_2(
    sample: Path, server: dict[str, str], tmp_path: Path
) -> None:
    command = [word.replace("--folds=2", "--folds=20") for word in train_command(sample, tmp_path)]
    result = subprocess.run(command, env=server, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 2
    assert "error: the checks stop here: manifest: Each class has 20 patients or more" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "experiments" / "run" / "config.json").exists()
    assert (tmp_path / "experiments" / "run" / "checks" / "report.html").exists()


def test_the_deployment_on_a_server_and_a_worker_gives_the_same_tables(
    undisturbed: Path, sample: Path, server: dict[str, str], tmp_path: Path
) -> None:
    def prefect(*words: str) -> str:
        result = subprocess.run(
            [BIN / "prefect", "--no-prompt", *words],
            cwd=PROJECT,
            env=server,
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    prefect("work-pool", "create", "cxr-cpu", "--type", "process", "--overwrite")
    prefect("deploy", "--all")
    places = {"experiments": str(tmp_path / "experiments"), "cache": str(tmp_path / "cache"), "run_id": "run"}
    values = PARAMETERS | places | {"data": str(sample)}
    parameters = [f"--param={name}={json.dumps(value)}" for name, value in values.items()]
    command = [BIN / "prefect", "worker", "start", "--pool", "cxr-cpu"]
    with (tmp_path / "worker.log").open("w") as log:
        worker = subprocess.Popen(command, cwd=PROJECT, env=server, stdout=log, stderr=log, start_new_session=True)
    try:
        prefect("deployment", "run", "train-cv/default", *parameters, "--watch")
        alone = [word for word in parameters if word.startswith(("--param=data=", "--param=exp", "--param=cache="))]
        prefect("deployment", "run", "validate-dataset/default", *alone, '--param=run_id="alone"', "--watch")
    finally:
        os.killpg(worker.pid, signal.SIGTERM)
        worker.wait(timeout=60)
    assert_same_tables(tmp_path, undisturbed)
    assert (tmp_path / "experiments" / "alone" / "checks" / "report.html").exists()
    log = (tmp_path / "worker.log").read_text()
    assert "train-fold-1" in log
    assert "roc_auc" in prefect("artifact", "inspect", "metrics-run")
    assert "starting project" in prefect("artifact", "inspect", "summary-run")
    assert "Every file can be read" in prefect("artifact", "inspect", "verdict-data-run")
    assert "least_probability" in prefect("artifact", "inspect", "checks-results-run")
