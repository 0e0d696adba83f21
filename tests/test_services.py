"""`cxr up`, `cxr status`, `cxr down`: real services, started once and gone afterwards."""

import base64
import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest
import torch

from cxr import store
from cxr.errors import ConfigError, RunError
from flows import services
from tests.conftest import PROJECT, free_port, is_healthy, wait_for

BIN = Path(sys.executable).parent
SECRET = "a-word-that-nobody-logs"  # noqa: S105 the tests' own


def test_up_starts_nothing_twice_and_down_leaves_no_process(tmp_path: Path) -> None:
    port, page_port = free_port(), free_port()
    folder = f"--services={tmp_path / 'services'}"
    secret = {"PREFECT_SERVER_API_AUTH_STRING": f"cxr:{SECRET}"}
    environment = os.environ | {"PREFECT_HOME": str(tmp_path / "prefect")} | secret

    def cxr(*words: str) -> str:
        said = subprocess.run(
            [BIN / "cxr", *words, folder], cwd=PROJECT, env=environment, capture_output=True, text=True, check=False
        )
        assert said.returncode == 0, said.stdout + said.stderr
        return said.stdout

    stale = services.services(tmp_path / "services")[0]
    store.write_json(stale.record, {"pid": os.getpid(), "born": 0.0, "address": "http://127.0.0.1:1", "command": []})
    try:
        first = cxr("up", f"--port={port}", f"--page-port={page_port}")
        assert f"server started: http://127.0.0.1:{port}" in first
        assert "worker-cxr-cpu started: pool cxr-cpu" in first
        assert f"page started: http://127.0.0.1:{page_port}" in first
        wait_for(lambda: is_healthy(f"http://127.0.0.1:{page_port}/_stcore/health"), "the page")
        ours = [service.process for service in services.services(tmp_path / "services")]
        assert all(ours)
        family = [one for process in ours if process for one in (process, *process.children(recursive=True))]
        again = cxr("up", f"--port={port}", f"--page-port={page_port}")
        assert "server is up already" in again
        assert "worker-cxr-cpu is up already" in again
        assert [service.process for service in services.services(tmp_path / "services")] == ours
        listening = {c.laddr.ip for p in family for c in p.net_connections("inet") if c.status == psutil.CONN_LISTEN}
        assert listening == {"127.0.0.1"}
        shown = cxr("status")
        for line in (
            "server          up",
            "worker-cxr-cpu  up",
            "page            up",
            "pool            cxr-cpu: ready",
            "UI  ",
        ):
            assert line in shown
        assert "pool            cxr-gpu: " in shown
        assert ("worker-cxr-gpu  none   no GPU on this machine" in shown) == (torch.cuda.device_count() == 0)
        wait_for(lambda: "\nnext  " in cxr("status"), "the scheduler to plan the next night")
        assert asked(port, None) == 401
        assert asked(port, f"cxr:{SECRET}") == 200
        left = leave_a_process_as_a_killed_worker_does(tmp_path / "services", environment)
    finally:
        last = cxr("down")
    assert last.startswith("worker-cxr-cpu stopped\npage stopped\nserver stopped\n")
    assert f"process {left.pid}, left by a killed worker, stopped" in last
    assert not any(one.is_running() for one in (*family, left))
    assert not [log for log in (tmp_path / "services").iterdir() if SECRET in log.read_text()]
    assert cxr("down") == "nothing was up\n"
    assert "down" in cxr("status")


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
    said = subprocess.run([sys.executable, "-c", start], env=marked, capture_output=True, text=True, check=True)
    return psutil.Process(int(said.stdout))


def test_up_outside_the_project_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"no prefect.yaml in .*: type this in the project's folder"):
        services.up(tmp_path / "services", 4200)
    assert not list(tmp_path.iterdir())


def test_a_server_that_cannot_start_is_told_with_its_last_words(
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
