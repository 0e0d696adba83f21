"""What is up on this machine, where its logs are, what ran last and what runs next."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from cxr.network.devices import visible_gpus
from cxr.storage import files
from deployments.processes import Service
from deployments.services import GPU_POOL, environment_of, is_healthy, services, talking_to_server

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun, WorkPool


def describe(folder: Path) -> list[str]:
    """Return in lines what is up, the pools' health, the last runs, and the next scheduled one.

    Args:
        folder: of the process ids and logs.
    """
    found = services(folder)
    lines = [_describe_service(service) for service in found]
    if not any(service.name.startswith(f"worker-{GPU_POOL}") for service in found):
        lines.append(_line(f"worker-{GPU_POOL}", f"none   {_why_no_gpu_worker(len(visible_gpus()))}"))
    server = found[0]
    address = files.read_json(server.record)["address"] if server.process else None
    if address and is_healthy(address):
        with talking_to_server(environment_of(server.folder, address)):
            lines += [_line("UI", address), *_describe_server()]
    return lines


def _line(name: str, state: str) -> str:
    return f"{name:<15} {state}"


def _why_no_gpu_worker(n_gpus: int) -> str:
    if n_gpus == 0:
        return "no GPU on this machine"
    return f"{n_gpus} GPUs on this machine: `cxr up` starts a worker for each"


def _describe_service(service: Service) -> str:
    process = service.process
    since = f"since {datetime.fromtimestamp(process.create_time()):%Y-%m-%d %H:%M}" if process else ""
    state = f"up     pid {process.pid} {since}" if process else "down  "
    return _line(service.name, f"{state}  log {service.log}")


def _describe_server() -> list[str]:
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
    except PrefectHTTPStatusError as error:
        if error.response.status_code != 401:
            raise
        return ["the server asks for a password: set PREFECT_API_AUTH_STRING to its PREFECT_SERVER_API_AUTH_STRING"]
    return [*_describe_pools(pools), *_describe_runs(latest, coming)]


def _describe_pools(pools: "Sequence[WorkPool]") -> Iterator[str]:
    for pool in sorted(pools, key=lambda pool: pool.name):
        health = pool.status.value.lower() if pool.status else "unknown"
        yield _line("pool", f"{pool.name}: {health}")


def _describe_runs(latest: "Sequence[FlowRun]", coming: "Sequence[FlowRun]") -> Iterator[str]:
    for run in latest:
        yield _line("run", f"{run.start_time:%Y-%m-%d %H:%M} UTC  {run.state_name}  {run.name}")
    for run in coming:
        at = run.next_scheduled_start_time or run.expected_start_time
        yield _line("next", f"{at:%Y-%m-%d %H:%M} UTC  {run.name}")
