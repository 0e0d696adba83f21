"""`cxr up`, `cxr status`, `cxr down`: real services, started once and gone afterwards."""

import base64
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest
import torch
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import DeploymentFilter, FlowRunFilter
from prefect.client.schemas.objects import FlowRun

from cxr.errors import ConfigError, RunError
from cxr.images.synthetic import draw_inbox
from cxr.storage import files
from cxr.storage.run_folder import RunFolder
from deployments import services
from deployments.processes import STOPS_IN_S, Service
from tests.support.processes import PROJECT, kill_with_family, somebody_elses_packages, wait_for
from tests.support.runs import PARAMETERS
from tests.support.servers import free_port, is_healthy, quick_deployment
from tests.support.shared import NewFolder

pytestmark = pytest.mark.faults

BIN = Path(sys.executable).parent
SECRET = "a-word-that-nobody-logs"  # noqa: S105 the tests' own


class Machine:
    """A machine on which the services are brought up, with a password, from a shell's background."""

    def __init__(self, place: Path) -> None:
        self.folder = place / "services"
        self.port = free_port()
        self.page_port, self.endpoint_port = free_port(), free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        secret = {"PREFECT_SERVER_API_AUTH_STRING": f"cxr:{SECRET}", "PREFECT_API_AUTH_STRING": f"cxr:{SECRET}"}
        quick = {"PREFECT_HOME": str(place / "prefect"), "PREFECT_WORKER_QUERY_SECONDS": "1"}
        self.environment = os.environ | secret | quick | {"PYTHONPATH": somebody_elses_packages(place)}

    def cxr(self, *words: str) -> str:
        # as a job in a shell's background, and without PWD, as in a systemd unit or a container
        ignoring_ctrl_c = ["sh", "-c", 'trap "" INT; exec env -u PWD "$@"', "sh"]
        command = [*ignoring_ctrl_c, BIN / "cxr", *words, f"--services={self.folder}"]
        return self._output(command, self.environment)

    def up(self) -> str:
        ports = [f"--page-port={self.page_port}", f"--endpoint-port={self.endpoint_port}"]
        return self.cxr("up", f"--port={self.port}", *ports, "--name=nobody")

    def prefect(self, *words: object) -> str:
        command = [BIN / "prefect", "--no-prompt", *map(str, words)]
        return self._output(command, self.environment | {"PREFECT_API_URL": f"{self.address}/api"})

    @contextmanager
    def client(self) -> Iterator[SyncPrefectClient]:
        environment = self.environment | {"PREFECT_API_URL": f"{self.address}/api"}
        with services.talking_to_server(environment), get_client(sync_client=True) as client:
            yield client

    def _output(self, command: list[str | Path], environment: dict[str, str]) -> str:
        ended = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    @property
    def services(self) -> dict[str, Service]:
        return {service.name: service for service in services.services(self.folder)}

    def process(self, name: str) -> psutil.Process:
        process = self.services[name].process
        assert process is not None, self.services[name].last_line()
        return process


@pytest.fixture(scope="module")
def first_time(new_folder: NewFolder) -> Iterator[tuple[Machine, str]]:
    """A machine, and what `cxr up` printed there when a record of another process was in its way."""
    machine = Machine(new_folder("machine"))
    stale = machine.services["server"]
    files.write_json(stale.record, {"pid": os.getpid(), "born": 0.0, "address": "http://127.0.0.1:1", "command": []})
    try:
        yield machine, machine.up()
    finally:
        machine.cxr("down")


@pytest.fixture
def machine(first_time: tuple[Machine, str]) -> Machine:
    """The machine with all services up."""
    machine, _ = first_time
    if machine.services["server"].process is None:
        machine.up()
    return machine


def test_up_starts_every_service_once_on_the_loopback_address_alone(first_time: tuple[Machine, str]) -> None:
    machine, first = first_time
    assert f"server started: {machine.address}" in first
    assert "worker-cxr-cpu started: pool cxr-cpu" in first
    assert f"page started: http://127.0.0.1:{machine.page_port}" in first
    endpoint = f"http://127.0.0.1:{machine.endpoint_port}"
    assert f"endpoint started: {endpoint}, model nobody" in first
    wait_for(lambda: is_healthy(f"http://127.0.0.1:{machine.page_port}/_stcore/health"), "the page")
    wait_for(lambda: is_healthy(f"{endpoint}/health"), "the endpoint, which has no model to answer with")
    with machine.client() as client:
        nightly = client.read_deployment_by_name("score-batch/nightly")
    assert nightly.pull_steps == [{"prefect.deployments.steps.set_working_directory": {"directory": str(PROJECT)}}], (
        "without PWD as well"
    )
    ours = [machine.process(name) for name in machine.services]
    again = machine.up()
    assert "server is up already" in again
    assert "worker-cxr-cpu is up already" in again
    assert [machine.process(name) for name in machine.services] == ours
    family = [member for process in ours for member in (process, *process.children(recursive=True))]
    listening = {c.laddr.ip for p in family for c in p.net_connections("inet") if c.status == psutil.CONN_LISTEN}
    assert listening == {"127.0.0.1"}


def test_status_shows_what_is_up_and_the_server_wants_the_password(machine: Machine) -> None:
    shown = ""

    def plans_the_next_scoring_run() -> bool:
        nonlocal shown
        shown = machine.cxr("status")
        return "\nnext  " in shown

    wait_for(plans_the_next_scoring_run, "the scheduler to plan the next scoring run")
    for line in (
        "server          up",
        "worker-cxr-cpu  up",
        "page            up",
        "endpoint        up",
        "pool            cxr-cpu: ready",
        "UI  ",
    ):
        assert line in shown
    has_gpu = torch.cuda.device_count() > 0
    assert ("pool            cxr-gpu: " in shown) == has_gpu
    assert ("worker-cxr-gpu  none   no GPU on this machine" in shown) == (not has_gpu)
    with machine.client() as client:
        deployments = [deployment.work_pool_name for deployment in client.read_deployments()]
    assert deployments.count("cxr-gpu") == has_gpu
    assert deployments.count("cxr-cpu") == 5
    assert asked(machine.port, None) == 401
    assert asked(machine.port, f"cxr:{SECRET}") == 200


def test_a_nightly_schedule_outlives_the_server_and_the_worker_when_both_are_killed(
    machine: Machine, home: Path, tmp_path: Path
) -> None:
    draw_inbox(tmp_path / "inbox", n_images=6, seed=2)
    places = {"inbox": str(tmp_path / "inbox"), "out": str(tmp_path / "scores"), "models": str(home / "models")}
    parameters = places | {"cache": str(home / "cache"), "name": "tiny", "settle": 0, "force": True, "compile": "off"}
    page = machine.process("page")
    kill_with_family(machine.process("worker-cxr-cpu"))
    described = quick_deployment(parameters, {"interval": 20}, tmp_path)
    machine.prefect("deploy", "--prefect-file", described, "--name", "quick")
    try:
        assert not completed_runs_of_quick(machine)
        kill_with_family(machine.process("server"))
        killed_at = datetime.now(UTC)
        printed = machine.up()
        assert f"server started: {machine.address}" in printed
        assert "worker-cxr-cpu started" in printed
        assert machine.process("page") == page

        def has_run() -> bool:
            return any(run.expected_start_time > killed_at for run in completed_runs_of_quick(machine))

        wait_for(has_run, "a scheduled run to be completed by the new worker", timeout_s=90)
        with machine.client() as client:
            (schedule,) = client.read_deployment_by_name("score-batch/nightly").schedules
    finally:
        machine.prefect("deployment", "delete", "score-batch/quick")
    assert schedule.active
    assert schedule.schedule.cron == "0 2 * * *"
    assert list((tmp_path / "scores").glob("[!_]*/*.parquet"))


def test_down_amid_a_training_leaves_no_process_and_no_batch_is_lost(
    machine: Machine, sample: Path, tmp_path: Path
) -> None:
    places = {"experiments": str(tmp_path / "experiments"), "cache": str(tmp_path / "cache"), "run_id": "run"}
    values = PARAMETERS | {"epochs": 500, "data": str(sample)} | places
    words = [f"--param={name}={json.dumps(value)}" for name, value in values.items()]
    machine.prefect("deployment", "run", "train-cv/default", *words)
    fold = RunFolder.named(tmp_path / "experiments", "run").fold(0)
    wait_for(fold.checkpoint.exists, "the first epoch")
    family = [child for name in machine.services for child in machine.process(name).children(recursive=True)]
    family += [machine.process(name) for name in machine.services]
    assert json.loads(fold.lock.with_suffix(".json").read_text())["pid"] in {process.pid for process in family}
    left = leave_a_process_as_a_killed_worker_does(machine.folder, machine.environment)
    log = machine.services["worker-cxr-cpu"].log
    begun_at = time.monotonic()
    last = machine.cxr("down")
    assert time.monotonic() - begun_at < STOPS_IN_S
    assert re.match(
        r"run in process \d+ stopped\nworker-cxr-cpu stopped\npage stopped\nendpoint stopped\nserver stopped\n", last
    )
    assert f"process {left.pid}, left by a killed worker, stopped" in last
    assert not any(process.is_running() for process in (*family, left))
    assert "fold 0: stopped after epoch" in log.read_text()
    assert not [log for log in machine.folder.iterdir() if SECRET in log.read_text()]
    assert machine.cxr("down") == "nothing was up\n"
    down = re.findall(r"^(\S+) +down", machine.cxr("status"), re.MULTILINE)
    assert down == ["server", "endpoint", "page", "worker-cxr-cpu"]


def completed_runs_of_quick(machine: Machine) -> list[FlowRun]:
    """What the deployment `quick` has completed."""
    wanted = {"flow_run_filter": FlowRunFilter.model_validate({"state": {"type": {"any_": ["COMPLETED"]}}})}
    wanted["deployment_filter"] = DeploymentFilter.model_validate({"name": {"any_": ["quick"]}})
    with machine.client() as client:
        return client.read_flow_runs(**wanted)


def asked(port: int, password: str | None) -> int:
    """Ask the server for its pools; return the HTTP status."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/api/work_pools/filter", b"{}")
    request.add_header("content-type", "application/json")
    if password:
        request.add_header("authorization", f"Basic {base64.b64encode(password.encode()).decode()}")
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310 loopback
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def leave_a_process_as_a_killed_worker_does(folder: Path, environment: dict[str, str]) -> psutil.Process:
    """Start a process through a parent that has ended, in the environment that a worker gives to its runs."""
    start = "import subprocess; print(subprocess.Popen(['sleep', '600'], stdout=-3, stderr=-3).pid)"
    marked = services.environment_of(folder, "http://127.0.0.1:1") | environment
    parent = subprocess.run([sys.executable, "-c", start], env=marked, capture_output=True, text=True, check=True)
    return psutil.Process(int(parent.stdout))


def test_up_outside_the_project_is_refused_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"no prefect.yaml in .*: type this in the project's folder"):
        services.up(tmp_path / "services", 4200)
    assert not list(tmp_path.iterdir())


def test_a_server_that_cannot_start_is_reported_with_the_last_line_of_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(PROJECT)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(RunError, match=r"the server does not start at http://127\.0\.0\.1"):
            services.up(tmp_path / "services", taken.getsockname()[1])
    assert services.services(tmp_path / "services")[0].process is None
