"""Begin a run and train its folds: on this machine's devices, on workers, or on a Ray cluster."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from prefect import State, Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import TaskRun
from prefect.futures import PrefectFuture

from cxr.config import Execution, TrainConfig
from cxr.errors import CxrError
from cxr.storage.run_folder import RunFolder
from cxr.training import beginning, features, scheduling
from cxr.training.beginning import Start
from cxr.training.run import Run
from cxr.training.scheduling import RETRY_DELAYS_S
from tasks import workers
from tasks.logs import core_log, core_logs
from tasks.ray_cluster import ray_cluster, require_cluster, require_server


def _may_be_retried(task: Task[..., Any], run: TaskRun, state: State) -> bool:
    """Return whether another try may help: not if the user has to change something."""
    return not isinstance(state.result(raise_on_failure=False), CxrError)


@task(
    task_run_name="train-fold-{fold}",
    retries=len(RETRY_DELAYS_S),
    retry_delay_seconds=list(RETRY_DELAYS_S),
    retry_condition_fn=_may_be_retried,
    cache_policy=NO_CACHE,
)
def train_fold(run: Run, fold: int, device: str) -> None:
    """Train a fold unless it is complete; resume it if it has begun."""
    with core_logs():
        scheduling.train_fold(run, fold, device, core_log())


def require_address(execution: Execution) -> None:
    """Raise CxrError unless the server that the runner needs is named, and a cluster answers."""
    if execution.runner == "workers":
        workers.require_address()
    if execution.runner == "ray":
        require_cluster(execution.ray_address)
        require_server()


def require_runner(execution: Execution) -> None:
    """Raise CxrError unless the workers or the cluster that train the folds can be reached."""
    if execution.runner == "workers":
        workers.require_workers()
    if execution.runner == "ray":
        require_cluster(execution.ray_address)
        require_server()


def train_folds(run: Run, execution: Execution) -> list[State]:
    """Train every fold as a task of its own; return the states in which they ended, or raise if any has failed."""
    if execution.runner == "ray":
        device = "cuda:0" if execution.gpus_per_fold else "cpu"  # a fold sees only the GPUs that Ray gives it
        with ray_cluster(execution.ray_address, n_gpus=execution.gpus_per_fold) as submit:
            return _train_each(
                replace(run, devices=[device] * run.config.folds),
                lambda fold, device: submit(train_fold, {"run": run, "fold": fold, "device": device}),
            )
    if execution.runner == "workers":
        return _train_each(
            workers.with_a_slot_for_each_fold(run, execution),
            lambda fold, device: workers.train_fold_on_worker.submit(run, fold, device),
        )
    return _train_each(run, lambda fold, device: train_fold.submit(run, fold, device))


def _train_each(run: Run, submit: Callable[[int, str], PrefectFuture[None]]) -> list[State]:
    """Return states rather than futures: once a cluster is left, a future of it would start another to ask there."""
    return [future.state for future in scheduling.train_folds(run, submit, _failure)]


def _failure(future: PrefectFuture[None]) -> BaseException | None:
    result: object = future.result(raise_on_failure=False)
    return result if isinstance(result, BaseException) else None


@task(task_run_name="begin-run", cache_policy=NO_CACHE)
def begin_run(config: TrainConfig, folder: RunFolder, execution: Execution, start: Start) -> Run:
    """Begin a run whose images were examined, or resume it."""
    with core_logs():
        return beginning.begin_run(config, folder, execution, start)


@task(task_run_name="extract-features", cache_policy=NO_CACHE)
def extract_features(run: Run) -> Run:
    """Compute the output of the frozen layers for each image, once for all folds, epochs and later runs."""
    with core_logs():
        features.extract(run, run.devices[0])
    return run
