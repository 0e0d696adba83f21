"""The services of one machine: Prefect's server and its workers, each started once, stopped by its recorded id.

`services/<name>.json` holds a service's process id with the time the process was born, so that a number which the
system has given to another process since is not taken for ours; `services/<name>.log` holds what it says. All that a
service starts in turn carries the folder's name in its environment: a worker that is killed leaves its flow's process
running, and `down` finds that by its mark.
"""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from cxr.errors import ConfigError, RunError
from cxr.network.devices import visible_gpus
from cxr.storage import files

PREFECT, CXR = (str(Path(sys.executable).with_name(name)) for name in ("prefect", "cxr"))
PREFECT_DEFAULTS = {  # as in prefect.toml, which Prefect reads only from the working folder
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
    "DO_NOT_TRACK": "1",
}
PAGE_PORT = 8501
SILENT_FOR_S = 120
"""Four heartbeats; after three, as Prefect's documentation has it, a healthy run was taken for a dead one."""
CPU_POOL, GPU_POOL = "cxr-cpu", "cxr-gpu"
MARK, LOCK = "CXR_SERVICES", "services"
RUN = "prefect.engine"
"""Among the words of the process in which a worker runs a flow."""
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
        facts = files.read_json(self.record)
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
            command[0],
            command,
            dict(environment),
            file_actions=streams,
            setsid=True,
            setsigdef=[signal.SIGINT],  # a shell's background job ignores it, and so would what is started here
        )
        born = psutil.Process(pid).create_time()
        files.write_json(self.record, {"pid": pid, "born": born, "address": address, "command": command})

    def stop(self) -> bool:
        """End the process and what it has started; tell whether there was one."""
        process = self.process
        if process is not None:
            _end([process], [process, *process.children(recursive=True)])
        self.record.unlink(missing_ok=True)
        return process is not None

    def last_line(self) -> str:
        """Return the last line of the log."""
        lines = self.log.read_text(errors="replace").split("\n") if self.log.exists() else []
        return next((line.strip() for line in reversed(lines) if line.strip()), "nothing was said")


@dataclass(frozen=True)
class Companion:
    """What runs beside the server: a name, a command, what its environment has besides, and what is said of it."""

    name: str
    command: list[str]
    purpose: str
    environment: dict[str, str] = field(default_factory=dict)


def companions(gpus: Sequence[str], page_port: int) -> list[Companion]:
    """Return what `up` starts beside the server: a worker for the CPU, one for each GPU, and the page.

    Args:
        gpus: what CUDA_VISIBLE_DEVICES calls each GPU.
        page_port: where the page listens.
    """
    start = [PREFECT, "worker", "start", "--pool"]
    return [
        Companion(f"worker-{CPU_POOL}", [*start, CPU_POOL, "--name", CPU_POOL], f"pool {CPU_POOL}"),
        *(
            Companion(
                f"worker-{GPU_POOL}-{gpu}",
                [*start, GPU_POOL, "--name", f"{GPU_POOL}-{gpu}", "--limit", "1"],
                f"pool {GPU_POOL}, GPU {gpu}",
                {"CUDA_VISIBLE_DEVICES": gpu},
            )
            for gpu in gpus
        ),
        Companion("page", [CXR, "app", f"--port={page_port}"], f"http://127.0.0.1:{page_port}"),
    ]


def services(folder: Path) -> list[Service]:
    """Return the server and what was started beside it, in the order of their start."""
    folder = folder.resolve()
    beside = sorted({f"worker-{CPU_POOL}", "page", *(path.stem for path in folder.glob("*.json"))} - {"server", LOCK})
    return [Service(folder, name) for name in ("server", *beside)]


def up(
    folder: Path, port: int, *, page_port: int = PAGE_PORT, silent_for_s: int = SILENT_FOR_S, notify: str | None = None
) -> list[str]:
    """Bring up what is not up: server, pools, deployments, automations, workers, page; return in words what was done.

    Args:
        page_port: where the page listens.
        silent_for_s: a run that gives no sign of life for so long is marked as crashed.
        notify: address that is told of failed, crashed and held runs; None leaves it as it is.

    Raises:
        ConfigError: this is not the project's folder.
        RunError: a service does not start.
    """
    _require_project()
    server = services(folder)[0]
    address = f"http://127.0.0.1:{port}"
    environment = environment_of(server.folder, address)
    with _only_one(server.folder):
        if server.process and (there := files.read_json(server.record)["address"]) != address:
            raise RunError(f"the server is up at {there}: type `cxr down` first to have it at {address}.")
        told = [_bring_up_server(server, address, port, environment)]
        told += deploy(environment, silent_for_s=silent_for_s, notify=notify)
        for companion in companions(visible_gpus(), page_port):
            service = Service(server.folder, companion.name)
            if service.process:
                told.append(f"{companion.name} is up already")
            else:
                service.start(companion.command, environment | companion.environment, address)
                told.append(f"{companion.name} started: {companion.purpose}")
    return told


def environment_of(folder: Path, address: str) -> dict[str, str]:
    """Return what the services and their clients see; where the server wants a password, its clients give it."""
    environment = PREFECT_DEFAULTS | os.environ | {"PREFECT_API_URL": f"{address}/api", MARK: str(folder)}
    if password := environment.get("PREFECT_SERVER_API_AUTH_STRING"):
        environment.setdefault("PREFECT_API_AUTH_STRING", password)
    return environment


@contextmanager
def talking_to_server(environment: Mapping[str, str]) -> Iterator[None]:
    """Let Prefect's clients in this process talk to the server of `environment` while the block runs."""
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

    names = {PREFECT_API_URL: "PREFECT_API_URL", PREFECT_API_AUTH_STRING: "PREFECT_API_AUTH_STRING"}
    with temporary_settings({setting: environment[name] for setting, name in names.items() if name in environment}):
        yield


def _only_one(folder: Path) -> AbstractContextManager[None]:
    return files.locked(folder / f"{LOCK}.lock", f"services folder {str(folder)!r}", patience_s=300)


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


def answers(address: str) -> bool:
    """Tell whether a Prefect server is there at all, healthy or not."""
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=10):  # noqa: S310 named by the user's settings
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


def deploy(environment: Mapping[str, str], *, silent_for_s: int = SILENT_FOR_S, notify: str | None = None) -> list[str]:
    """Tell the server of `environment` its pools, automations and deployments; return in words what it does by itself.

    Raises:
        ConfigError: this is not the project's folder, or the webhook's address is none.
        RunError: Prefect refuses the deployments.
    """
    from deployments import server

    _require_project()
    with talking_to_server(environment):
        server.create_pools((CPU_POOL, GPU_POOL))
        told = server.set_automations_up(silent_for_s, notify)
    command = [PREFECT, "--no-prompt", "deploy", "--all"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if ended.returncode:
        said = (ended.stderr or ended.stdout).strip().splitlines()
        raise RunError(f"`prefect deploy --all` failed: {said[-1] if said else 'nothing was said'}")
    return told


def _require_project() -> None:
    if not Path("prefect.yaml").exists():
        raise ConfigError(f"no prefect.yaml in {str(Path.cwd())!r}: type this in the project's folder.")


def down(folder: Path) -> list[str]:
    """Stop what `up` has started, the last first, and what a killed worker left; return what was stopped.

    Runs that are under way are asked first: a worker would kill them, and the batch that a fold is at would be lost.
    """
    folder = folder.resolve()
    with _only_one(folder):
        runs = _marked(folder, RUN)
        _end(runs, runs)
        stopped = [service.name for service in reversed(services(folder)) if service.stop()]
        left = _marked(folder)
        _end(left, left)
    return [
        *(f"run in process {one.pid}" for one in runs),
        *stopped,
        *(f"process {one.pid}, left by a killed worker," for one in left),
    ]


def _marked(folder: Path, word: str | None = None) -> list[psutil.Process]:
    """Return the processes that a service in `folder` has started, itself or through others, parent alive or not.

    Args:
        word: only those that were started with this one among others; None for all.
    """

    def is_marked(process: psutil.Process) -> bool:
        try:
            is_ours = process.pid != os.getpid() and process.environ().get(MARK) == str(folder)
            return is_ours and (word is None or word in process.cmdline())
        except psutil.Error:  # it has ended, or is another user's
            return False

    return [process for process in psutil.process_iter() if is_marked(process)]


def _end(asked: Sequence[psutil.Process], family: Sequence[psutil.Process]) -> None:
    """Ask some processes to end, and kill of the whole family what has not ended after a minute."""
    for process in asked:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    _, alive = psutil.wait_procs(family, timeout=STOPS_IN_S)
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=STOPS_IN_S)
