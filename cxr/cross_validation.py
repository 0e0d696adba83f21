"""Cross-validation without an orchestrator: from a folder of films to a report, in this process and its children.

The Prefect flow train-cv takes the same steps, each as a task, and judges the tables with Great Expectations
besides. How folds share devices, and what is told when some fail, stands here for both.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

from cxr import dataset, evaluation, events, experiment, features, report, store, supervision, training
from cxr.config import Placement, TrainConfig
from cxr.errors import ConfigError, CxrError, FoldFailedError, RunError
from cxr.experiment import Experiment
from cxr.layout import RunFolder

log = logging.getLogger(__name__)

RETRY_DELAYS_S = (5, 30)
"""A fold whose process ended badly is started again after so many seconds, once for each."""


class Pending(Protocol):
    """What stands for a fold that is being trained."""

    def add_done_callback(self, fn: Callable[[Any], None], /) -> Any:
        """Call a function when the fold has ended."""
        ...


Started = TypeVar("Started", bound=Pending)


def cross_validate(config: TrainConfig, place: Placement) -> RunFolder:
    """Cross-validate a ResNet-50 on a folder of chest X-rays, or take a run up again; return the run's folder.

    Raises:
        CxrError: a mistake of the user's.
        FoldFailedError: folds failed although nothing that was typed is wrong; the others are kept.
    """
    if place.runner != "local":
        raise ConfigError(f"--runner {place.runner} needs Prefect: type `cxr train`, not `python -m cxr train`.")
    folder = RunFolder.named(place.experiments, place.run_id or config.default_run_id)
    where = {"devices": place.devices, "folds_per_device": place.folds_per_device, "redo_fold": place.redo_fold}
    with store.locked(folder.lock, f"run {folder.run_id}"), events.stage(folder.events, "run"):
        experiment.require_startable(config, folder, **where)
        dataset.examine(config, folder, cache=place.cache, size=config.size)
        run = experiment.begin(config, folder, cache=place.cache, compile=place.compile, **where)
        features.extract(run, run.devices[0])
        with ThreadPoolExecutor(len(run.devices)) as pool:
            train_folds(run, lambda fold, device: pool.submit(_train_patiently, run, fold, device), Future.exception)
        evaluation.evaluate(run)
        report.write_report(run)
    return folder


def train_folds(
    run: Experiment,
    submit: Callable[[int, str], Started],
    failure_of: Callable[[Started], BaseException | None],
) -> None:
    """Start fold after fold, each as soon as a device is free; once all have ended, raise if any has failed.

    A fold keeps its device through its retries. Finished folds are kept whatever the others do.

    Args:
        run: the run.
        submit: starts training a fold on a device, and does not wait for it.
        failure_of: waits for a fold; returns why it failed, or None.

    Raises:
        RunError: the folds that failed need the user to change something.
        FoldFailedError: some failed otherwise.
    """
    free: SimpleQueue[str] = SimpleQueue()
    for device in run.devices:
        free.put(device)
    started: list[Started] = []
    try:
        for fold in range(run.config.folds):
            device = free.get()
            pending = submit(fold, device)
            pending.add_done_callback(lambda _, device=device: free.put(device))
            started.append(pending)
        outcomes = [failure_of(pending) for pending in started]
    except BaseException:  # the run is being stopped: nobody waits for the folds any more
        supervision.stop_children()
        raise
    failures = {fold: failure for fold, failure in enumerate(outcomes) if failure is not None}
    if failures:
        raise _describe(failures, len(outcomes))


def _describe(failures: Mapping[int, BaseException], n_folds: int) -> RunError | FoldFailedError:
    """Return which folds failed, why, and how the run goes on, as one error."""
    folds_of: dict[str, list[int]] = {}
    for fold, failure in failures.items():
        folds_of.setdefault(str(failure).removesuffix("."), []).append(fold)
    causes = "; ".join(f"{_names(folds)}: {cause}" for cause, folds in folds_of.items())
    kept = "the others are finished and kept" if len(failures) < n_folds else "nothing finished is lost"
    told = f"{len(failures)} of {n_folds} folds failed, {kept}. {causes}. The same command goes on from here."
    is_mistake = all(isinstance(failure, CxrError) for failure in failures.values())
    return RunError(told) if is_mistake else FoldFailedError(told)


def _names(folds: Sequence[int]) -> str:
    return f"fold{'s' if len(folds) > 1 else ''} {', '.join(map(str, folds))}"


def train_fold(run: Experiment, fold: int, device: str, log: logging.Logger | logging.LoggerAdapter) -> None:
    """Train a fold unless it is complete; in a process of its own, unless it takes but seconds."""
    if run.folder.fold(fold).is_complete(run.config_hash):
        log.info("fold %d: complete already", fold)
    elif run.config.trainable == "head":
        training.train_fold(run, fold, device)  # a process of its own would take longer to start
    else:
        supervision.train_fold_in_child(run.folder.path, fold, device, log)


def _train_patiently(run: Experiment, fold: int, device: str) -> None:
    for delay_s in RETRY_DELAYS_S:
        try:
            train_fold(run, fold, device, log)
        except CxrError:
            raise
        except Exception as error:
            log.warning("%s; it is started again in %d s", error, delay_s)
            time.sleep(delay_s)
        else:
            return
    train_fold(run, fold, device, log)
