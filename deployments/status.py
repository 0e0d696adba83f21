"""What is up on this machine, where its logs are, what ran last and how it ended, and what runs next."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from cxr.network.devices import visible_gpus
from cxr.storage import files
from deployments.processes import Service
from deployments.services import GPU_POOL, environment_of, is_healthy, services, talking_to_server

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun, WorkPool

ERROR = re.compile(r"^(Flow|Task) run encountered an exception:? (\w+: )?")
"""What Prefect writes before the sentence of an error."""
BADLY = ("FAILED", "CRASHED")
"""Types of states whose message says what went wrong; a scoring run that is held has the first."""


@dataclass(frozen=True)
class ServiceState:
    """A service of this machine, running or not."""

    name: str
    pid: int | None
    since: str | None
    log: Path


@dataclass(frozen=True)
class PoolState:
    """A work pool."""

    name: str
    health: str


@dataclass(frozen=True)
class RunState:
    """A run of a flow that has begun, or will."""

    flow: str
    name: str
    state: str | None
    at: datetime | None
    """When it began, or is to begin; UTC."""
    failure: str | None
    """The sentence that says what went wrong, if something did."""


@dataclass(frozen=True)
class Survey:
    """What is up, and what the server knows; all of the latter is empty without a server."""

    services: Sequence[ServiceState]
    address: str | None = None
    needs_password: bool = False
    pools: Sequence[PoolState] = ()
    runs: Sequence[RunState] = ()
    coming: Sequence[RunState] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return asdict(self)


def survey(folder: Path) -> Survey:
    """Return what is up, the pools' health, the last runs, and the next scheduled one.

    Args:
        folder: of the process ids and logs.
    """
    found = services(folder)
    states = [_service(service) for service in found]
    server = found[0]
    address = files.read_json(server.record)["address"] if server.process else None
    if not address or not is_healthy(address):
        return Survey(states)
    with talking_to_server(environment_of(server.folder, address)):
        return Survey(states, address, **_ask_server())


def _service(service: Service) -> ServiceState:
    process = service.process
    since = f"{datetime.fromtimestamp(process.create_time()):%Y-%m-%d %H:%M}" if process else None
    return ServiceState(service.name, process.pid if process else None, since, service.log)


def _ask_server() -> dict[str, Any]:
    """Return the fields of a survey that the server knows."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter
    from prefect.client.schemas.sorting import FlowRunSort
    from prefect.exceptions import PrefectHTTPStatusError

    scheduled = FlowRunFilter.model_validate({"state": {"type": {"any_": ["SCHEDULED"]}}})
    begun = FlowRunFilter.model_validate({"start_time": {"is_null_": False}})
    next_first = FlowRunSort.NEXT_SCHEDULED_START_TIME_ASC
    try:
        with get_client(sync_client=True) as client:
            pools = client.read_work_pools()
            latest = client.read_flow_runs(flow_run_filter=begun, sort=FlowRunSort.START_TIME_DESC, limit=5)
            coming = client.read_flow_runs(flow_run_filter=scheduled, sort=next_first, limit=1)
            flows = {flow.id: flow.name for flow in client.read_flows()}
    except PrefectHTTPStatusError as error:
        if error.response.status_code != 401:
            raise
        return {"needs_password": True}
    return {
        "pools": [_pool(pool) for pool in sorted(pools, key=lambda pool: pool.name)],
        "runs": [_run(run, flows) for run in latest],
        "coming": [_run(run, flows) for run in coming],
    }


def _pool(pool: "WorkPool") -> PoolState:
    return PoolState(pool.name, pool.status.value.lower() if pool.status else "unknown")


def _run(run: "FlowRun", flows: Mapping[UUID, str]) -> RunState:
    """Return what is known of a run; an error is its sentence, without what Prefect writes before it."""
    at = run.start_time or run.next_scheduled_start_time or run.expected_start_time
    failure = None
    if run.state is not None and run.state.type.value in BADLY and run.state.message:
        failure = ERROR.sub("", run.state.message.strip()).splitlines()[0]
    return RunState(flows.get(run.flow_id, "unknown flow"), run.name, run.state_name, at, failure)


def describe(found: Survey) -> list[str]:
    """Return a survey in lines."""
    lines = [_describe_service(service) for service in found.services]
    if not any(service.name.startswith(f"worker-{GPU_POOL}") for service in found.services):
        lines.append(_line(f"worker-{GPU_POOL}", f"none   {_why_no_gpu_worker(len(visible_gpus()))}"))
    if found.address:
        lines.append(_line("UI", found.address))
    if found.needs_password:
        lines.append(
            "the server asks for a password: set PREFECT_API_AUTH_STRING to its PREFECT_SERVER_API_AUTH_STRING"
        )
    lines += [_line("pool", f"{pool.name}: {pool.health}") for pool in found.pools]
    return [*lines, *_describe_runs(found.runs, found.coming)]


def _line(name: str, state: str) -> str:
    return f"{name:<15} {state}"


def _why_no_gpu_worker(n_gpus: int) -> str:
    if n_gpus == 0:
        return "no GPU on this machine"
    return f"{n_gpus} GPUs on this machine: `cxr up` starts a worker for each"


def _describe_service(service: ServiceState) -> str:
    state = "down  " if service.pid is None else f"up     pid {service.pid} since {service.since}"
    return _line(service.name, f"{state}  log {service.log}")


def _describe_runs(latest: Sequence[RunState], coming: Sequence[RunState]) -> Iterator[str]:
    for run in latest:
        yield _line("run", f"{run.at:%Y-%m-%d %H:%M} UTC  {run.state}  {run.flow} {run.name}")
        if run.failure:
            yield _line("", run.failure)
    for run in coming:
        yield _line("next", f"{run.at:%Y-%m-%d %H:%M} UTC  {run.flow}")  # its name is chosen when it begins
