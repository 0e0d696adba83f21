"""What is up on this machine, where its logs are, what ran last and what runs next."""

from datetime import datetime
from pathlib import Path

from cxr.network.devices import visible_gpus
from cxr.storage import files
from deployments.services import GPU_POOL, Service, environment_of, is_healthy, services, talking_to_server


def describe(folder: Path) -> list[str]:
    """Return in lines what is up, the last runs, the next scheduled one, and the pools' health."""
    found = services(folder)
    lines = [_describe_service(service) for service in found]
    if not any(service.name.startswith(f"worker-{GPU_POOL}") for service in found):
        n_gpus = len(visible_gpus())
        why = "no GPU on this machine" if n_gpus == 0 else f"{n_gpus} GPUs here: `cxr up` starts a worker for each"
        lines.append(f"{'worker-' + GPU_POOL:<15} none   {why}")
    server = found[0]
    address = files.read_json(server.record)["address"] if server.process else None
    if address and is_healthy(address):
        with talking_to_server(environment_of(server.folder, address)):
            lines += [f"{'UI':<15} {address}", *_describe_server()]
    return lines


def _describe_service(service: Service) -> str:
    process = service.process
    since = f"since {datetime.fromtimestamp(process.create_time()):%Y-%m-%d %H:%M}" if process else ""
    state = f"up     pid {process.pid} {since}" if process else "down  "
    return f"{service.name:<15} {state}  log {service.log}"


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
        return ["the server wants a password: set PREFECT_API_AUTH_STRING to what PREFECT_SERVER_API_AUTH_STRING was"]
    lines = [
        f"{'pool':<15} {pool.name}: {pool.status.value.lower() if pool.status else 'unknown'}"
        for pool in sorted(pools, key=lambda pool: pool.name)
    ]
    for run in latest:
        lines.append(f"{'run':<15} {run.start_time:%Y-%m-%d %H:%M} UTC  {run.state_name}  {run.name}")
    for run in coming:
        at = run.next_scheduled_start_time or run.expected_start_time
        lines.append(f"{'next':<15} {at:%Y-%m-%d %H:%M} UTC  {run.name}")
    return lines
