"""The flow as it runs in earnest: real processes, killed for real, a real Prefect server and worker."""

import json
import os
import re
import signal
import subprocess
from pathlib import Path

import psutil
import pytest
from prefect.client.orchestration import get_client

from deployments import services
from deployments.server import create_pools
from tests.support.processes import BIN, PROJECT, is_alive, run_to_the_end, wait_for
from tests.support.runs import PARAMETERS, assert_same_tables, start_and_wait_for_epoch_2, train_command
from tests.support.servers import worker


def train(sample: Path, folder: Path, server: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return run_to_the_end(train_command(sample, folder), server)


def test_the_command_ends_with_metrics_the_tables_and_a_query(undisturbed: Path) -> None:
    out = (undisturbed / "stdout").read_text()
    run = undisturbed / "experiments" / "run"
    for words in ("ROC-AUC", "mean ± sd", "not a medical device", f"tables   {run / 'metrics'}"):
        assert words in out
    assert "starting project" not in out, "that one is of other images"
    assert "\x1b" not in out, "colours belong on a terminal"
    query = re.search(r'duckdb -c "(.*)"', out)
    assert query is not None
    import duckdb

    assert "accuracy" in dict(duckdb.sql(query[1]).fetchall())


def test_a_training_on_a_terminal_shows_bars_and_each_line_once_without_prefects_prefix(undisturbed: Path) -> None:
    shown = (undisturbed / "stderr").read_text()
    lines = [line for line in shown.splitlines() if re.match(r"\d\d:\d\d:\d\d ", line)]
    ends = [number for number, line in enumerate(lines) if re.search(r"fold \d: epoch 4 of 4", line)]
    assert sum("epoch 1 of 4" in line for line in lines[: ends[0]]) == 2, "both folds train at the same time"
    for fold in (0, 1):
        for epoch in range(1, 5):
            assert sum(f"fold {fold}: epoch {epoch} of 4" in line for line in lines) == 1
        assert re.search(rf"fold {fold} +━+ +4/4", shown)
    assert sum("read 80 of 80 images" in line for line in lines) == 1
    assert re.search("images read +━+ +80/80", shown)
    assert not re.search("INFO|Task run|Flow run|Finished in state", shown)


@pytest.mark.faults
def test_a_killed_fold_process_fails_its_own_task_and_is_resumed_by_the_retry(
    undisturbed: Path, sample: Path, server: dict[str, str], tmp_path: Path
) -> None:
    process, fold_pid = start_and_wait_for_epoch_2(0, train_command(sample, tmp_path), tmp_path, server)
    os.kill(fold_pid, signal.SIGKILL)
    assert process.wait(timeout=300) == 0
    log = (tmp_path / "log").read_text()
    assert "process of fold 0 was ended by SIGKILL" in log
    assert "fold 0: resumed after epoch" in log
    assert_same_tables(tmp_path, undisturbed)


@pytest.mark.faults
@pytest.mark.parametrize("ended", ["the flow is killed", "the flow is terminated"])
def test_the_same_command_finishes_what_was_ended_and_redoes_no_finished_fold(
    ended: str, undisturbed: Path, sample: Path, server: dict[str, str], tmp_path: Path
) -> None:
    process, fold_pid = start_and_wait_for_epoch_2(1, train_command(sample, tmp_path), tmp_path, server)
    finished = tmp_path / "experiments" / "run" / "folds" / "fold=0" / "complete.json"  # one device: 0 comes first
    before = finished.stat().st_mtime_ns
    process.send_signal(signal.SIGTERM if ended == "the flow is terminated" else signal.SIGKILL)
    assert process.wait(timeout=60) == (143 if ended == "the flow is terminated" else -signal.SIGKILL)
    wait_for(lambda: not is_alive(fold_pid), "the fold's process to end with its parent", timeout_s=20)
    if ended == "the flow is terminated":
        assert "fold 1: stopped after epoch" in (tmp_path / "log").read_text()
    result = train(sample, tmp_path, server)
    assert result.returncode == 0, result.stderr
    assert "fold 0: already complete" in result.stderr
    assert "fold 1: resumed after epoch" in result.stderr
    assert finished.stat().st_mtime_ns == before
    assert_same_tables(tmp_path, undisturbed)


@pytest.mark.faults
def test_ctrl_c_ends_a_run_at_once_with_all_its_processes_and_the_same_command_goes_on(
    undisturbed: Path, sample: Path, server: dict[str, str], tmp_path: Path
) -> None:
    embedded = {name: value for name, value in server.items() if name != "PREFECT_API_URL"}
    embedded |= {"PREFECT_HOME": str(tmp_path / "prefect")}
    process, _ = start_and_wait_for_epoch_2(0, train_command(sample, tmp_path), tmp_path, embedded)
    family = psutil.Process(process.pid).children(recursive=True)
    assert len(family) >= 2, "the embedded server and the process of the fold"
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    assert process.wait(timeout=40) == 130
    assert not any(member.is_running() for member in family)
    log = (tmp_path / "log").read_text()
    assert log.endswith("stopped: rerun the same command to resume\n")
    assert "Traceback" not in log
    result = train(sample, tmp_path, server)
    assert result.returncode == 0, result.stderr
    assert "fold 0: resumed after epoch" in result.stderr
    assert_same_tables(tmp_path, undisturbed)


@pytest.mark.faults
def test_the_deployment_on_a_server_and_a_worker_gives_the_same_tables(
    undisturbed: Path, sample: Path, server: dict[str, str], tmp_path: Path
) -> None:
    def prefect(*words: str) -> None:
        command = [BIN / "prefect", "--no-prompt", *words]
        result = subprocess.run(command, cwd=PROJECT, env=server, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout + result.stderr

    with services.talking_to_server(server):
        create_pools(services.POOLS)
    prefect("deploy", "--all")
    places = {"experiments": str(tmp_path / "experiments"), "cache": str(tmp_path / "cache"), "run_id": "run"}
    values = PARAMETERS | places | {"data": str(sample)}
    parameters = [f"--param={name}={json.dumps(value)}" for name, value in values.items()]
    with worker(services.CPU_POOL, "one", tmp_path, server):
        prefect("deployment", "run", "train-cv/default", *parameters, "--watch")
        alone = [word for word in parameters if word.startswith(("--param=data=", "--param=exp", "--param=cache="))]
        prefect("deployment", "run", "validate-dataset/default", *alone, '--param=run_id="alone"', "--watch")
    assert_same_tables(tmp_path, undisturbed)
    assert (tmp_path / "experiments" / "alone" / "checks" / "report.html").exists()
    assert "train-fold-1" in (tmp_path / "one.log").read_text()
    with services.talking_to_server(server), get_client(sync_client=True) as client:
        artifacts, tasks = client.read_artifacts(), client.read_task_runs()
    shown = {artifact.key: str(artifact.data) for artifact in artifacts}
    needs_nothing = {"examine-images"}
    linked = {task.name for task in tasks if any(task.task_inputs.values())}
    assert {task.name for task in tasks} - linked == needs_nothing, "the graph shows what each task needs"
    assert "roc_auc" in shown["metrics-run"]
    assert "| roc" in shown["summary-run"].lower()
    described = {artifact.key: artifact.description or "" for artifact in artifacts}
    assert re.fullmatch(r"run run: ROC\\-AUC [\d.]+% \[[\d.]+, [\d.]+\], out of fold", described["summary-run"])
    assert all(described.values()), "each artifact says what it is"
    assert "Every file can be read" in shown["verdict-data-run"]
    assert "least_probability" in shown["checks-results-run"]
