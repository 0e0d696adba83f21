"""Train folds as runs of a deployment: each on the worker that takes it, on this machine or another.

The run's folder has to have the same path everywhere. If a worker is killed or its machine goes down, another worker
resumes its fold from the last epoch.
"""

import time
from dataclasses import replace
from typing import cast
from uuid import UUID

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.deployments import run_deployment
from prefect.logging import get_run_logger
from prefect.settings import get_current_settings

from cxr.config import Execution
from cxr.errors import FoldFailedError, RunError
from cxr.training.run import Run
from cxr.training.scheduling import RETRY_DELAYS_S
from tasks.deployed import read_deployment
from tasks.logs import core_log

DEPLOYMENT = "train-fold/default"
POLL_S = 2.0
UNDER_WAY = [StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.PAUSED]


def require_address() -> None:
    """Raise RunError if no server is named that workers poll."""
    if get_current_settings().api.url is None:
        raise RunError(
            "--runner workers needs a Prefect server that workers poll, and PREFECT_API_URL names none: "
            "`cxr up` starts one and prints its address."
        )


def require_workers() -> None:
    """Check that workers can take the folds, before hours are spent on reading images; warn if none is running.

    Raises:
        RunError: no server is named, or it does not know the deployment.
    """
    require_address()
    pool = read_deployment(DEPLOYMENT).work_pool_name
    with get_client(sync_client=True) as client:
        status = client.read_work_pool(pool).status if pool else None
    if status is None or status.value != "READY":
        get_run_logger().warning("no worker polls the pool %s: the folds wait until one does", pool)


def with_a_slot_for_each_fold(run: Run, execution: Execution) -> Run:
    """Return the run with a slot for each fold: all folds are handed out at once, to as many workers as there are."""
    return replace(run, devices=["cpu" if execution.devices == "cpu" else "auto"] * run.config.folds)


@task(
    task_run_name="train-fold-{fold}",
    retries=len(RETRY_DELAYS_S),
    retry_delay_seconds=list(RETRY_DELAYS_S),
    cache_policy=NO_CACHE,
)
def train_fold_on_worker(run: Run, fold: int, device: str) -> None:
    """Have a worker train a fold unless it is complete; wait for it, even if an earlier command started it."""
    log = core_log()
    if run.is_complete(fold):
        log.info("fold %d: already complete", fold)
        return
    tags = ["train-fold", f"run={run.folder.path}", f"fold={fold}"]
    begun = _under_way(tags)
    if begun is None:
        parameters = {"run": str(run.folder.path), "fold": fold, "device": device}
        name = f"{run.folder.run_id}-fold-{fold}"
        started = run_deployment(DEPLOYMENT, parameters=parameters, flow_run_name=name, tags=tags, timeout=0)
        begun = cast(FlowRun, started)
    log.info("fold %d: run %r of %s", fold, begun.name, DEPLOYMENT)
    ended = _wait_for(begun.id)
    if ended.state is None or not ended.state.is_completed():
        outcome = f"{ended.state.name}: {ended.state.message}" if ended.state else "state unknown"
        raise FoldFailedError(f"run {ended.name!r} of {DEPLOYMENT} ended as {outcome}")


def _under_way(tags: list[str]) -> FlowRun | None:
    """Return the flow run with these tags that has not ended, or None."""
    wanted = FlowRunFilter.model_validate({"tags": {"all_": tags}, "state": {"type": {"any_": UNDER_WAY}}})
    with get_client(sync_client=True) as client:
        return next(iter(client.read_flow_runs(flow_run_filter=wanted, limit=1)), None)


def _wait_for(flow_run_id: UUID) -> FlowRun:
    """Return the flow run once it has ended.

    Polling outlasts a restart of the server, which waiting for Prefect's events does not.
    """
    with get_client(sync_client=True) as client:
        while True:
            flow_run = client.read_flow_run(flow_run_id)
            if flow_run.state is not None and flow_run.state.is_final():
                return flow_run
            time.sleep(POLL_S)
