"""The services of one machine: Prefect's server, its workers, the page and the endpoint.

Each is started once and stopped by its recorded process id, so `down` stops what `up` has started and nothing else.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tzlocal import get_localzone_name

from cxr import application
from cxr.errors import ConfigError, RunError
from cxr.storage import files
from cxr.storage.run_folder import require_name
from deployments import prefect_home
from deployments.processes import MARK, Service, end, marked

PREFECT = str(Path(sys.executable).with_name("prefect"))
CXR = str(Path(sys.executable).with_name("cxr"))
PREFECT_DEFAULTS = {  # as in prefect.toml, which Prefect reads only from the working folder
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
    "DO_NOT_TRACK": "1",
}
PAGE_PORT = 8501
ENDPOINT_PORT = 8600
MODEL = "pneumonia"
"""The model that the nightly deployment in prefect.yaml scores with."""
SILENT_FOR_S = 120
"""Four heartbeats: after three, which Prefect's documentation suggests, a healthy run was marked as crashed."""
CPU_POOL = "cxr-cpu"
GPU_POOL = "cxr-gpu"
POOLS = {
    CPU_POOL: "Data checks, cross-validations and scoring runs, on this machine.",
    GPU_POOL: "Single folds of a run with --runner workers, on any machine: one worker for each GPU, or for a CPU. "
    "Not needed on a single machine.",
}
"""The work pools, and what each is for. `cxr up` creates the second only on a machine with a GPU."""
LOCK = "services"
RUN = "prefect.engine"
"""An argument of the process in which a worker runs a flow."""
SERVER_STARTS_IN_S = 120


@dataclass(frozen=True)
class Companion:
    """A service that runs beside the server."""

    name: str
    command: list[str]
    purpose: str
    """What `up` prints about it."""
    environment: dict[str, str] = field(default_factory=dict)
    """In addition to that of all services."""


def companions(gpus: Sequence[str], page_port: int, endpoint_port: int, model: str) -> list[Companion]:
    """Return what `up` starts beside the server: a worker for the CPU, one for each GPU, the page and the endpoint.

    Args:
        gpus: the value of CUDA_VISIBLE_DEVICES for each GPU.
        page_port: where the page listens.
        endpoint_port: where the endpoint listens.
        model: the endpoint's; it need not be there yet.
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
        Companion(
            "endpoint",
            [CXR, "serve", f"--name={model}", f"--port={endpoint_port}", "--wait"],
            f"http://127.0.0.1:{endpoint_port}, model {model}",
        ),
    ]


def services(folder: Path) -> list[Service]:
    """Return the server and the services beside it, running or not, in the order in which they start."""
    folder = folder.resolve()
    beside = {f"worker-{CPU_POOL}", "page", "endpoint", *(path.stem for path in folder.glob("*.json"))} - {
        "server",
        LOCK,
    }
    return [Service(folder, name) for name in ("server", *sorted(beside))]


def up(
    folder: Path,
    port: int,
    *,
    page_port: int = PAGE_PORT,
    endpoint_port: int = ENDPOINT_PORT,
    model: str = MODEL,
    silent_for_s: int = SILENT_FOR_S,
    notify: str | None = None,
    retrain: bool | None = None,
) -> list[str]:
    """Start what is not running: server, workers, page and endpoint; register pools, automations and deployments.

    Args:
        folder: of the process ids and logs.
        port: where the server listens, on the loopback address.
        page_port: where the page listens.
        endpoint_port: where the endpoint listens.
        model: the endpoint's; it need not be there yet.
        silent_for_s: a run without a sign of life for this long is marked as crashed.
        notify: address that is told of failed, crashed and held runs; None leaves it as it is.
        retrain: whether a model that is surely below its promise is trained again; None leaves it as it is.

    Returns:
        A sentence for each thing that was done, or was done already.

    Raises:
        ConfigError: this is not the project's folder, or no model can have the name.
        RunError: a service does not start.
    """
    from cxr.network.devices import visible_gpus  # and torch, which takes a second or more

    _described_deployments()
    require_name("--name", model)
    server = services(folder)[0]
    address = f"http://127.0.0.1:{port}"
    environment = environment_of(server.folder, address)
    with _only_one(server.folder):
        if server.process and (other := files.read_json(server.record)["address"]) != address:
            raise RunError(f"the server is up at {other}: type `cxr down` first to start it at {address}.")
        gpus = visible_gpus()
        done = [_start_server(server, address, port, environment)]
        done += deploy(
            environment, silent_for_s=silent_for_s, notify=notify, retrain=retrain, folds_on_workers=bool(gpus)
        )
        for companion in companions(gpus, page_port, endpoint_port, model):
            service = Service(server.folder, companion.name)
            if service.process:
                done.append(f"{companion.name} is up already")
            else:
                service.start(companion.command, environment | companion.environment, address)
                done.append(f"{companion.name} started: {companion.purpose}")
    return done


def own_environment() -> dict[str, str]:
    """Return this process's environment with Prefect's defaults."""
    return PREFECT_DEFAULTS | prefect_home.home_settings(os.environ) | os.environ


def environment_of(folder: Path, address: str) -> dict[str, str]:
    """Return the environment of the services; if the server asks for a password, it holds the clients' as well."""
    environment = own_environment() | {"PREFECT_API_URL": f"{address}/api", MARK: str(folder)}
    if password := environment.get("PREFECT_SERVER_API_AUTH_STRING"):
        environment.setdefault("PREFECT_API_AUTH_STRING", password)
    return environment


@contextmanager
def talking_to_server(environment: Mapping[str, str]) -> Iterator[None]:
    """Let Prefect's clients in this process talk to the server that `environment` names while the block runs."""
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

    names = {PREFECT_API_URL: "PREFECT_API_URL", PREFECT_API_AUTH_STRING: "PREFECT_API_AUTH_STRING"}
    with temporary_settings({setting: environment[name] for setting, name in names.items() if name in environment}):
        yield


def _only_one(folder: Path) -> AbstractContextManager[None]:
    return files.locked(folder / f"{LOCK}.lock", f"services folder {str(folder)!r}", patience_s=300)


def _start_server(server: Service, address: str, port: int, environment: Mapping[str, str]) -> str:
    if is_healthy(address):
        state = "is up already" if server.process else "is not ours and is left alone"
        return f"server {state}: {address}"
    if server.process is None:
        prefect_home.require_readable_database(environment)
        command = [PREFECT, "server", "start", "--host", "127.0.0.1", "--port", str(port)]
        server.start(command, environment, address)
    deadline = time.monotonic() + SERVER_STARTS_IN_S
    while not is_healthy(address):
        if server.process is None or time.monotonic() > deadline:
            server.stop()
            raise RunError(
                f"the server does not start at {address}: {server.last_line()} (see the whole log, {server.log})"
            )
        time.sleep(0.2)
    return f"server started: {address}"


def is_healthy(address: str) -> bool:
    """Return whether a healthy Prefect server answers at an address."""
    try:
        with urllib.request.urlopen(f"{address}/api/health", timeout=2) as answer:  # noqa: S310 loopback
            return json.load(answer) is True
    except (OSError, ValueError):
        return False


def answers(address: str, patience_s: float = 0) -> bool:
    """Return whether anything answers at an address, healthy or not.

    Args:
        address: of a Prefect server.
        patience_s: how long to wait for the first answer.
    """
    deadline = time.monotonic() + patience_s
    while not _answers_now(address):
        if time.monotonic() >= deadline:
            return False
        time.sleep(1)
    return True


def _answers_now(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=10):  # noqa: S310 named by the user's settings
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


def deploy(
    environment: Mapping[str, str],
    *,
    silent_for_s: int = SILENT_FOR_S,
    notify: str | None = None,
    retrain: bool | None = None,
    folds_on_workers: bool = True,
) -> list[str]:
    """Register pools, automations and deployments at the server that `environment` names.

    Args:
        environment: of a client of the server.
        silent_for_s: as for `up`.
        notify: as for `up`.
        retrain: as for `up`.
        folds_on_workers: with the pool for single folds and its deployment; False leaves out both, unless the pool is
            there already.

    Returns:
        A sentence for each thing that the server does by itself from now on.

    Raises:
        ConfigError: this is not the project's folder, or `notify` is not an address.
        RunError: Prefect refuses the deployments.
    """
    from deployments import server

    described = _described_deployments()
    with talking_to_server(environment):
        folds_on_workers = folds_on_workers or server.has_pool(GPU_POOL)
        server.create_pools({name: POOLS[name] for name in POOLS if folds_on_workers or name != GPU_POOL})
        done = server.set_automations_up(silent_for_s, notify)
        retrain = server.starts_retrainings() if retrain is None else retrain
    # prefect.yaml asks for both; a systemd unit or a container has no PWD
    here = {"PWD": str(Path.cwd()), "TZ": environment.get("TZ") or get_localzone_name() or "UTC"}
    with described_for(described, folds_on_workers) as file:
        command = [PREFECT, "--no-prompt", "deploy", "--all", "--prefect-file", str(file)]
        ended = subprocess.run(command, env={**environment, **here}, capture_output=True, text=True, check=False)
    if ended.returncode:
        lines = (ended.stderr or ended.stdout).strip().splitlines()
        raise RunError(f"`prefect deploy --all` failed: {lines[-1] if lines else 'it printed nothing'}")
    if retrain:
        with talking_to_server(environment):
            done.append(server.set_retraining_up())
    return done


@contextmanager
def described_for(described: Path, folds_on_workers: bool) -> Iterator[Path]:
    """Provide the file that describes the deployments, without those of the pool for single folds if so asked."""
    if folds_on_workers:
        yield described
        return
    import yaml

    description = yaml.safe_load(described.read_text(encoding="utf-8"))
    kept = [each for each in description["deployments"] if each.get("work_pool", {}).get("name") != GPU_POOL]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / described.name
        file.write_text(yaml.safe_dump(description | {"deployments": kept}), encoding="utf-8")
        yield file


def _described_deployments() -> Path:
    """Return the file that describes the deployments: the working folder's, or else the one that a wheel carries."""
    described = Path("prefect.yaml")
    if described.exists():
        return described
    if not application.is_carried():
        raise ConfigError(f"no prefect.yaml in {str(Path.cwd())!r}: type this in the project's folder.")
    return application.folder() / described


def down(folder: Path) -> list[str]:
    """Stop what `up` has started, in reverse order, and what a killed worker has left running.

    Runs that are under way are asked to stop first: a worker would kill them, and each fold would lose the batch that
    it is at.

    Args:
        folder: of the process ids and logs.

    Returns:
        What was stopped.
    """
    folder = folder.resolve()
    with _only_one(folder):
        runs = marked(folder, RUN)
        end(runs, runs)
        stopped = [service.name for service in reversed(services(folder)) if service.stop()]
        left = marked(folder)
        end(left, left)
    return [
        *(f"run in process {process.pid}" for process in runs),
        *stopped,
        *(f"process {process.pid}, left by a killed worker," for process in left),
    ]
