"""Train folds, each in a process of its own on a device of its own."""

from queue import SimpleQueue
from typing import Any

from prefect import State, Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import TaskRun
from prefect.futures import PrefectFuture
from prefect.logging import get_run_logger

from cxr import training
from cxr.errors import CxrError, FoldFailedError
from cxr.experiment import Experiment
from cxr.supervision import train_fold_in_child
from tasks.logs import core_logs


def _is_no_mistake(task: Task[..., Any], run: TaskRun, state: State) -> bool:
    """Tell whether another try may help: not where the user has to change something."""
    return not isinstance(state.result(raise_on_failure=False), CxrError)


@task(
    task_run_name="train-fold-{fold}",
    retries=2,
    retry_delay_seconds=[5, 30],
    retry_condition_fn=_is_no_mistake,
    cache_policy=NO_CACHE,
)
def train_fold(run: Experiment, fold: int, device: str) -> None:
    """Train a fold unless it is complete; resume it if it was begun."""
    log = get_run_logger()
    if run.folder.fold(fold).is_complete(run.config_hash):
        log.info("fold %d: complete already", fold)
    elif run.config.trainable == "head":
        with core_logs():
            training.train_fold(run, fold, device)  # seconds: a process of its own would take longer to start
    else:
        train_fold_in_child(run.folder.path, fold, device, log)


def train_folds(run: Experiment) -> None:
    """Start fold after fold, each as soon as a device is free; once all have ended, raise if any has failed.

    A fold keeps its device through its retries. Finished folds are kept whatever the others do.
    """
    free: SimpleQueue[str] = SimpleQueue()
    for device in run.devices:
        free.put(device)
    trained: list[PrefectFuture[None]] = []
    for fold in range(run.config.folds):
        device = free.get()
        future = train_fold.submit(run, fold, device)
        future.add_done_callback(lambda _, device=device: free.put(device))
        trained.append(future)
    results = [future.result(raise_on_failure=False) for future in trained]
    failures = {fold: result for fold, result in enumerate(results) if isinstance(result, Exception)}
    for failure in failures.values():
        if isinstance(failure, CxrError):
            raise failure
    if failures:
        raise FoldFailedError(
            f"{len(failures)} of {len(results)} folds failed and the others are kept; typing the same command again "
            f"resumes them. {'; '.join(f'fold {fold}: {failure}' for fold, failure in failures.items())}."
        )
