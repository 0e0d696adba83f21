"""Train a fold in a process of its own, on a device of its own."""

from typing import Any

from prefect import State, Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import TaskRun
from prefect.futures import PrefectFutureList
from prefect.logging import get_run_logger

from cxr.devices import DeviceLeases
from cxr.errors import CxrError, FoldFailedError
from cxr.experiment import Experiment
from cxr.supervision import train_fold_in_child


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
def train_fold(run: Experiment, fold: int, leases: DeviceLeases) -> int:
    """Train a fold unless it is complete; resume it if it was begun; return its number."""
    log = get_run_logger()
    if run.folder.fold(fold).is_complete(run.config_hash):
        log.info("fold %d: complete already", fold)
        return fold
    with leases.lease() as device:
        train_fold_in_child(run.folder.path, fold, device, log)
    return fold


def require_all(trained: PrefectFutureList[int]) -> None:
    """Wait for every fold; raise once all have ended if any has failed. Finished folds are kept."""
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
