"""Folds on workers of the pool cxr-gpu, each a machine of its own: killed for real, on a real Prefect server."""

import os
import re
import socket
import subprocess
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowFilter
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort
from prefect.settings import get_current_settings

from cxr.config import Execution, TrainConfig
from cxr.errors import ConfigError
from cxr.pipeline import cross_validate
from cxr.storage.run_folder import RunFolder
from deployments import services
from tests.support.processes import PROJECT, kill_with_family, run_to_the_end, wait_for
from tests.support.runs import assert_same_tables, train_command
from tests.support.servers import automations, webhook, worker

pytestmark = pytest.mark.faults

SILENT_FOR_S = 40
"""Above the 30 s between two heartbeats, Prefect's least; `cxr up` allows 120."""


def runs_of(flow: str, folder: Path, client: SyncPrefectClient) -> list[FlowRun]:
    """The runs of a flow that have the folder among their parameters, in the order in which they began."""
    wanted = FlowFilter.model_validate({"name": {"any_": [flow]}})
    found = client.read_flow_runs(flow_filter=wanted, sort=FlowRunSort.START_TIME_ASC)
    return [run for run in found if str(folder) in str(run.parameters)]


def test_a_killed_workers_fold_is_marked_crashed_told_and_taken_up_while_a_longer_healthy_run_goes_on(
    undisturbed: Path, sample: Path, server: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(PROJECT)
    environment = services.PREFECT_DEFAULTS | server
    kept = [RunFolder.named(tmp_path / "experiments", "run").fold(fold).checkpoint for fold in (0, 1)]
    services.deploy(environment)
    with webhook() as (address, notices), automations(SILENT_FOR_S, address, environment) as client:
        with worker(services.GPU_POOL, "lost", tmp_path, environment) as lost, (tmp_path / "log").open("w") as log:
            command = [*train_command(sample, tmp_path), "--runner=workers"]
            training = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
            wait_for(
                lambda: any(checkpoint.exists() for checkpoint in kept) or training.poll() is not None,
                "a fold's first epoch",
            )
            assert training.poll() is None, (tmp_path / "log").read_text()
            kill_with_family(lost)
            killed_at = datetime.now(UTC)
            with worker(services.GPU_POOL, "spare", tmp_path, environment):
                assert training.wait(timeout=200) == 0, (tmp_path / "log").read_text()
        (healthy,) = runs_of("train-cv", tmp_path, client)
        states = [state.name for state in client.read_flow_run_states(healthy.id)]
        crashed, *others = runs_of("train-fold", tmp_path, client)
    assert crashed.state_name == "Crashed"
    assert crashed.end_time - killed_at < timedelta(seconds=SILENT_FOR_S + 20)
    assert [run.state_name for run in others] == ["Completed", "Completed"]
    assert healthy.total_run_time > timedelta(seconds=SILENT_FOR_S)
    assert states == ["Pending", "Running", "Completed"]
    assert len(notices) == 1
    assert f"train-fold {crashed.name} ended as Crashed: no sign of life for {SILENT_FOR_S} s" in notices[0]
    assert "resumed after epoch" in (tmp_path / "spare.log").read_text()
    assert_same_tables(tmp_path, undisturbed)


def test_a_dead_run_is_marked_within_three_minutes_and_a_live_one_may_miss_three_signs() -> None:
    every_s = int(services.PREFECT_DEFAULTS["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"])
    looked_every = get_current_settings().server.events.proactive_granularity
    assert every_s + services.SILENT_FOR_S + looked_every.total_seconds() < 180
    assert 4 * every_s <= services.SILENT_FOR_S
    assert tomllib.loads((PROJECT / "prefect.toml").read_text())["flows"]["heartbeat_frequency"] == every_s
    deployments = PROJECT / "deployments"
    for file in (deployments / "compose.yaml", deployments / "systemd" / "cxr-.service.d" / "shared.conf"):
        assert re.findall(r"PREFECT_FLOWS_HEARTBEAT_FREQUENCY\W+(\d+)", file.read_text()) == [str(every_s)], file


def test_a_server_that_is_absent_is_told_in_one_sentence(sample: Path, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{probe.getsockname()[1]}/api"
    result = run_to_the_end(train_command(sample, tmp_path), os.environ | {"PREFECT_API_URL": address})
    assert result.returncode == 2
    assert f"error: no Prefect server answers at {address}, where PREFECT_API_URL points" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "experiments").exists()


def test_workers_need_prefect_and_find_their_own_devices(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="each worker finds its own"):
        Execution(runner="workers", devices="cuda:0,cuda:1")
    with pytest.raises(ConfigError, match="--runner workers needs Prefect: type `cxr train`"):
        cross_validate(TrainConfig(data=str(tmp_path)), Execution(runner="workers", experiments=tmp_path / "runs"))
    assert not (tmp_path / "runs").exists()
