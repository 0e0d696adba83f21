"""Folds on workers of the pool cxr-gpu, each a machine of its own: killed for real, on a real Prefect server."""

import http.server
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from cxr.config import Placement, TrainConfig
from cxr.cross_validation import cross_validate
from cxr.errors import ConfigError
from flows.server import create_pools, set_automations_up
from flows.services import GPU_POOL, PREFECT_DEFAULTS, talking_to_server
from tests.conftest import BIN, PROJECT, assert_same_tables, run_to_the_end, train_command, wait_for

SILENT_FOR_S = 50
"""Above the 30 s between two heartbeats, Prefect's least; `cxr up` allows 120."""


@contextmanager
def webhook() -> Iterator[tuple[str, list[str]]]:
    """A receiver on the loopback address: its address, and the bodies that it was sent."""
    told: list[str] = []

    class Receiver(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(self.rfile.read(int(self.headers["content-length"])).decode())
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *values: object) -> None:
            """Keep the tests' output clean."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as receiver:
        threading.Thread(target=receiver.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{receiver.server_address[1]}/hook", told
        receiver.shutdown()


@contextmanager
def worker(name: str, folder: Path, environment: dict[str, str]) -> Iterator[psutil.Process]:
    command = [BIN / "prefect", "worker", "start", "--pool", GPU_POOL, "--name", name, "--limit", "1"]
    with (folder / f"{name}.log").open("w") as log:
        process = psutil.Popen(command, cwd=PROJECT, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        yield process
    finally:
        kill_with_family(process)


def kill_with_family(process: psutil.Process) -> None:
    """As when a machine goes down: the worker, the flow that it runs, and the fold's process."""
    if process.is_running():
        family = [process, *process.children(recursive=True)]
        for one in family:
            one.kill()
        psutil.wait_procs(family, timeout=20)


@pytest.mark.skipif("CXR_WORKERS" not in os.environ, reason="it waits for silent runs, minutes: set CXR_WORKERS=1")
def test_a_killed_workers_fold_is_marked_crashed_told_and_taken_up_while_a_healthy_run_goes_on(
    undisturbed: Path, sample: Path, server: dict[str, str], tmp_path: Path
) -> None:
    environment = PREFECT_DEFAULTS | server
    with webhook() as (address, told), talking_to_server(environment):
        create_pools([GPU_POOL])
        set_automations_up(SILENT_FOR_S, address)
        deploy = [BIN / "prefect", "--no-prompt", "deploy", "--all"]
        create_pools(["cxr-cpu"])
        subprocess.run(deploy, cwd=PROJECT, env=environment, check=True, capture_output=True)
        with worker("lost", tmp_path, environment) as lost, (tmp_path / "log").open("w") as log:
            command = [*train_command(sample, tmp_path), "--runner=workers"]
            run = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
            epoch = "epoch 1 of 4"
            wait_for(lambda: epoch in (tmp_path / "lost.log").read_text() or run.poll() is not None, epoch)
            assert run.poll() is None, (tmp_path / "log").read_text()
            kill_with_family(lost)
            killed_at = time.monotonic()
            with worker("spare", tmp_path, environment):
                wait_for(lambda: "ended as Crashed" in "".join(told), "the silent run to be told of", timeout_s=180)
                assert time.monotonic() - killed_at < SILENT_FOR_S + 40
                assert run.wait(timeout=120) == 0, (tmp_path / "log").read_text()
    said = (tmp_path / "log").read_text()
    assert f"ended as Crashed: no sign of life for {SILENT_FOR_S} s" in said
    assert "taken up again after epoch" in (tmp_path / "spare.log").read_text()
    assert len(told) == 1, "cxr train itself, silent for nobody, was running for longer than that"
    assert_same_tables(tmp_path, undisturbed)


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
        Placement(runner="workers", devices="cuda:0,cuda:1")
    with pytest.raises(ConfigError, match="--runner workers needs Prefect: type `cxr train`"):
        cross_validate(TrainConfig(data=str(tmp_path)), Placement(runner="workers", experiments=tmp_path / "runs"))
    assert not (tmp_path / "runs").exists()
