"""Servers of the tests' own, on the loopback address: Prefect's with its workers, and a webhook."""

import http.server
import os
import signal
import socket
import subprocess
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil
import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client

from deployments.server import GIVE_UP, TELL, set_automations_up
from deployments.services import talking_to_server
from tests.support.processes import BIN, PROJECT, kill_with_family, wait_for


class PrefectServer:
    """A Prefect server of the tests' own: `prefect server start`, with its history in a folder of its own."""

    def __init__(self, home: Path, environment: Mapping[str, str] = {}) -> None:
        self.port = free_port()
        self.log = home / "server.log"
        self.environment = os.environ | environment
        self.environment |= {"PREFECT_HOME": str(home), "PREFECT_API_URL": f"http://127.0.0.1:{self.port}/api"}
        self.start()

    def start(self) -> None:
        """Start it, for the first time or again with its history."""
        command = [BIN / "prefect", "server", "start", "--port", str(self.port)]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                command, cwd=PROJECT, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )
        try:
            wait_for(lambda: is_healthy(self.environment["PREFECT_API_URL"] + "/health"), "the Prefect server")
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        """Kill it and its children, as a power cut would."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """Ask it to stop, and wait until it has."""
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(timeout=60)


def make_database(home: Path) -> None:
    """Make the SQLite database of a Prefect server, with all of its tables and nothing in them."""
    environment = os.environ | {"PREFECT_HOME": str(home)}
    upgrade = [BIN / "prefect", "server", "database", "upgrade", "--yes"]
    subprocess.run(upgrade, cwd=PROJECT, env=environment, capture_output=True, check=True, timeout=240)


@contextmanager
def worker(pool: str, name: str, folder: Path, environment: Mapping[str, str]) -> Iterator[psutil.Process]:
    """Run a worker that takes one run at a time; its log is `folder`/`name`.log."""
    command = [BIN / "prefect", "worker", "start", "--pool", pool, "--name", name, "--limit", "1"]
    environment = {**environment, "PREFECT_WORKER_QUERY_SECONDS": "1"}
    with (folder / f"{name}.log").open("w") as log:
        process = psutil.Popen(command, cwd=PROJECT, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        yield process
    finally:
        kill_with_family(process)


def quick_deployment(parameters: dict[str, object], schedule: dict[str, object], folder: Path) -> Path:
    """Write the project's nightly deployment with another schedule and parameters; return the file.

    Keep the runs apart: when a run is cancelled in favour of another, SQLite is locked for seconds and events are lost.
    """
    described = yaml.safe_load((PROJECT / "prefect.yaml").read_text())
    (nightly,) = [entry for entry in described["deployments"] if entry["name"] == "nightly"]
    nightly |= {"name": "quick", "schedules": [schedule], "parameters": parameters}
    described |= {"deployments": [nightly]}
    described["pull"] = [{"prefect.deployments.steps.set_working_directory": {"directory": str(PROJECT)}}]
    (folder / "prefect.yaml").write_text(yaml.safe_dump(described))
    return folder / "prefect.yaml"


@contextmanager
def webhook() -> Iterator[tuple[str, list[str]]]:
    """Receive on the loopback address; yields the address and the list of bodies received so far."""
    bodies: list[str] = []

    class Receiver(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["content-length"])).decode())
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *values: object) -> None:
            """Keep the tests' output clean."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as receiver:
        threading.Thread(target=receiver.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{receiver.server_address[1]}/hook", bodies
        receiver.shutdown()


@contextmanager
def automations(silent_for_s: int, notify: str, environment: Mapping[str, str]) -> Iterator[SyncPrefectClient]:
    """Let a server mark silent runs and notify a webhook of failures inside the block; yields a client of it."""
    with talking_to_server(environment), get_client(sync_client=True) as client:
        set_automations_up(silent_for_s, notify)
        try:
            yield client
        finally:
            for name in (GIVE_UP, TELL):
                for automation in client.read_automations_by_name(name):
                    client.delete_automation(automation.id)


def free_port() -> int:
    """Return a port on the loopback address that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def is_healthy(url: str) -> bool:
    """Return whether a server answers with status 200."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 loopback
            return answer.status == 200
    except OSError:
        return False
