"""Train folds, each in a process of its own on a device of its own: this machine's, or those of a Ray cluster."""

from dataclasses import replace
from typing import Any

from prefect import State, Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import TaskRun
from prefect.futures import PrefectFuture
from prefect.logging import get_run_logger

from cxr import cross_validation
from cxr.config import Runner
from cxr.errors import CxrError
from cxr.experiment import Experiment
from tasks.logs import core_logs
from tasks.ray_cluster import ray_cluster


def _is_no_mistake(task: Task[..., Any], run: TaskRun, state: State) -> bool:
    """Tell whether another try may help: not where the user has to change something."""
    return not isinstance(state.result(raise_on_failure=False), CxrError)


@task(
    task_run_name="train-fold-{fold}",
    retries=len(cross_validation.RETRY_DELAYS_S),
    retry_delay_seconds=list(cross_validation.RETRY_DELAYS_S),
    retry_condition_fn=_is_no_mistake,
    cache_policy=NO_CACHE,
)
def train_fold(run: Experiment, fold: int, device: str) -> None:
    """Train a fold unless it is complete; resume it if it was begun."""
    with core_logs():
        cross_validation.train_fold(run, fold, device, get_run_logger())


def train_folds(run: Experiment, runner: Runner, ray_address: str | None, gpus_per_fold: float) -> None:
    """Train every fold as a task, as soon as a device is free; raise once all have ended if any has failed."""
    if runner == "local":
        cross_validation.train_folds(run, lambda fold, device: train_fold.submit(run, fold, device), _failure)
        return
    device = "cuda:0" if gpus_per_fold else "cpu"  # a fold sees no GPU but those that Ray gives it
    waiting = replace(run, devices=[device] * run.config.folds)
    with ray_cluster(ray_address, n_gpus=gpus_per_fold) as submit:
        cross_validation.train_folds(
            waiting, lambda fold, device: submit(train_fold, {"run": run, "fold": fold, "device": device}), _failure
        )


def _failure(future: PrefectFuture[None]) -> BaseException | None:
    result: object = future.result(raise_on_failure=False)
    return result if isinstance(result, BaseException) else None
