"""The services of one machine: Prefect's server and its worker, each started once, stopped by its recorded id.

`services/<name>.json` holds a service's process id with the time the process was born, so that a number which the
system has given to another process since is not taken for ours; `services/<name>.log` holds what it says.
"""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import psutil

from cxr import store
from cxr.errors import ConfigError, RunError

PREFECT = str(Path(sys.executable).with_name("prefect"))
PREFECT_DEFAULTS = {  # as in prefect.toml, which Prefect reads only from the working folder
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "DO_NOT_TRACK": "1",
}
POOL = "cxr-cpu"
WORKER = f"worker-{POOL}"
SERVER_STARTS_IN_S, STOPS_IN_S = 120, 60


@dataclass(frozen=True)
class Service:
    """A process that outlives the command which starts it."""

    folder: Path
    name: str

    @property
    def record(self) -> Path:
        """Process id, time of birth, address, command."""
        return self.folder / f"{self.name}.json"

    @property
    def log(self) -> Path:
        """What it says."""
        return self.folder / f"{self.name}.log"

    @property
    def process(self) -> psutil.Process | None:
        """The process that was recorded, None if it has ended."""
        if not self.record.exists():
            return None
        facts = store.read_json(self.record)
        try:
            process = psutil.Process(facts["pid"])
            is_ours = process.create_time() == facts["born"] and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return None
        return process if is_ours else None

    def start(self, command: list[str], environment: Mapping[str, str], address: str) -> None:
        """Start the process, apart from this terminal."""
        self.folder.mkdir(parents=True, exist_ok=True)
        streams = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(self.log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ]
        pid = os.posix_spawn(
            command[0], command, dict(environment), file_actions=streams, setsid=True,
            setsigdef=[signal.SIGINT],  # a shell's background job ignores it, and so would what is started here
        )  # fmt: skip
        born = psutil.Process(pid).create_time()
        store.write_json(self.record, {"pid": pid, "born": born, "address": address, "command": command})

    def stop(self) -> bool:
        """End the process and what it has started; tell whether there was one."""
        process = self.process
        if process is not None:
            family = [process, *process.children(recursive=True)]
            process.terminate()
            _, alive = psutil.wait_procs(family, timeout=STOPS_IN_S)
            for one in alive:
                one.kill()
            psutil.wait_procs(alive, timeout=STOPS_IN_S)
        self.record.unlink(missing_ok=True)
        return process is not None

    def last_line(self) -> str:
        """Return the last line of the log."""
        lines = self.log.read_text(errors="replace").split("\n") if self.log.exists() else []
        return next((line.strip() for line in reversed(lines) if line.strip()), "nothing was said")


def services(folder: Path) -> list[Service]:
    """Return the services, in the order of their start."""
    return [Service(folder.resolve(), name) for name in ("server", WORKER)]


def up(folder: Path, port: int) -> list[str]:
    """Bring up what is not up: server, pool, deployments, worker; return in words what was done.

    Raises:
        ConfigError: this is not the project's folder.
        RunError: a service does not start.
    """
    if not Path("prefect.yaml").exists():
        raise ConfigError(f"no prefect.yaml in {str(Path.cwd())!r}: type this in the project's folder.")
    server, worker = services(folder)
    address = f"http://127.0.0.1:{port}"
    environment = PREFECT_DEFAULTS | os.environ | {"PREFECT_API_URL": f"{address}/api"}
    with store.locked(server.folder / "services.lock", f"services folder {str(server.folder)!r}", patience_s=300):
        if server.process and (there := store.read_json(server.record)["address"]) != address:
            raise RunError(f"the server is up at {there}: type `cxr down` first to have it at {address}.")
        told = [_bring_up_server(server, address, port, environment)]
        _run_prefect(environment, "work-pool", "create", POOL, "--type", "process", "--overwrite")
        _run_prefect(environment, "deploy", "--all")
        if worker.process:
            told.append("worker is up already")
        else:
            worker.start([PREFECT, "worker", "start", "--pool", POOL, "--name", POOL], environment, address)
            told.append(f"worker started, pool {POOL}")
    return told


def _bring_up_server(server: Service, address: str, port: int, environment: Mapping[str, str]) -> str:
    if is_healthy(address):
        whose = "is up already" if server.process else "was started by somebody else, who stops it"
        return f"server {whose}: {address}"
    if server.process is None:
        command = [PREFECT, "server", "start", "--host", "127.0.0.1", "--port", str(port)]
        server.start(command, environment, address)
    deadline = time.monotonic() + SERVER_STARTS_IN_S
    while not is_healthy(address):
        if server.process is None or time.monotonic() > deadline:
            server.stop()
            raise RunError(f"the server does not start at {address}: {server.last_line()} (whole log: {server.log})")
        time.sleep(0.2)
    return f"server started: {address}"


def is_healthy(address: str) -> bool:
    """Tell whether a Prefect server answers."""
    try:
        with urllib.request.urlopen(f"{address}/api/health", timeout=2) as answer:  # noqa: S310 loopback
            return json.load(answer) is True
    except (OSError, ValueError):
        return False


def _run_prefect(environment: Mapping[str, str], *words: str) -> None:
    ended = subprocess.run([PREFECT, *words], env=environment, capture_output=True, text=True, check=False)
    if ended.returncode:
        said = (ended.stderr or ended.stdout).strip().splitlines()
        raise RunError(f"`prefect {' '.join(words)}` failed: {said[-1] if said else 'nothing was said'}")


def down(folder: Path) -> list[str]:
    """Stop what `up` has started, the last first; return the names of what was stopped."""
    server = services(folder)[0]
    with store.locked(server.folder / "services.lock", f"services folder {str(server.folder)!r}", patience_s=300):
        return [service.name for service in reversed(services(folder)) if service.stop()]


def describe(folder: Path) -> list[str]:
    """Return in lines what is up, the last runs, the next scheduled one, and the pools' health."""
    lines = []
    for service in services(folder):
        process = service.process
        since = f"since {datetime.fromtimestamp(process.create_time()):%Y-%m-%d %H:%M}" if process else ""
        state = f"up     pid {process.pid} {since}" if process else "down  "
        lines.append(f"{service.name:<15} {state}  log {service.log}")
    server = services(folder)[0]
    address = store.read_json(server.record)["address"] if server.process else None
    return [*lines, *(_describe_server(address) if address and is_healthy(address) else [])]


def _describe_server(address: str) -> list[str]:
    os.environ["PREFECT_API_URL"] = f"{address}/api"
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter
    from prefect.client.schemas.sorting import FlowRunSort

    scheduled = FlowRunFilter.model_validate({"state": {"type": {"any_": ["SCHEDULED"]}}})
    begun = FlowRunFilter.model_validate({"start_time": {"is_null_": False}})
    with get_client(sync_client=True) as client:
        pools = client.read_work_pools()
        latest = client.read_flow_runs(flow_run_filter=begun, sort=FlowRunSort.START_TIME_DESC, limit=5)
        coming = client.read_flow_runs(
            flow_run_filter=scheduled, sort=FlowRunSort.NEXT_SCHEDULED_START_TIME_ASC, limit=1
        )
    lines = [f"UI              {address}"]
    lines += [
        f"pool            {pool.name}: {pool.status.value.lower() if pool.status else 'unknown'}" for pool in pools
    ]
    for run in latest:
        lines.append(f"run             {run.start_time:%Y-%m-%d %H:%M} UTC  {run.state_name}  {run.name}")
    for run in coming:
        lines.append(
            f"next            {run.next_scheduled_start_time or run.expected_start_time:%Y-%m-%d %H:%M} UTC  {run.name}"
        )
    return lines
