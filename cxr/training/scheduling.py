"""Folds on devices: each starts as soon as a device is free; a fold whose process fails is tried again."""

import logging
from collections.abc import Callable, Mapping, Sequence
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

from cxr.errors import CxrError, FoldFailedError, RunError
from cxr.training import supervision, trainer
from cxr.training.run import Run

RETRY_DELAYS_S = (5, 30)
"""Seconds to wait before each retry of a fold whose process ended badly."""


class Pending(Protocol):
    """A fold that is being trained."""

    def add_done_callback(self, fn: Callable[[Any], None], /) -> Any:
        """Call a function when the fold has ended."""
        ...


Started = TypeVar("Started", bound=Pending)


def train_folds(
    run: Run,
    submit: Callable[[int, str], Started],
    failure_of: Callable[[Started], BaseException | None],
) -> list[Started]:
    """Start each fold as soon as a device is free; return what `submit` returned, by fold, once all have ended.

    A fold keeps its device through its retries. Finished folds are kept, whatever happens to the others.

    Args:
        run: the run; it has a device for each fold that runs at the same time.
        submit: starts training a fold on a device, without waiting for it.
        failure_of: waits for a fold; returns why it failed, or None.

    Raises:
        RunError: folds failed, all of them for reasons that the user has to change.
        FoldFailedError: folds failed, some of them for other reasons.
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
    except BaseException:  # the run is being stopped: nothing waits for the folds any more
        supervision.stop_children()
        raise
    failures = {fold: failure for fold, failure in enumerate(outcomes) if failure is not None}
    if failures:
        raise _describe(failures, len(outcomes))
    return started


def _describe(failures: Mapping[int, BaseException], n_folds: int) -> RunError | FoldFailedError:
    """Return one error that says which folds failed, why, and how to go on."""
    folds_of: dict[str, list[int]] = {}
    for fold, failure in failures.items():
        folds_of.setdefault(str(failure).removesuffix("."), []).append(fold)
    causes = "; ".join(f"{_names(folds)}: {cause}" for cause, folds in folds_of.items())
    kept = "the others are finished and kept" if len(failures) < n_folds else "nothing finished is lost"
    message = f"{len(failures)} of {n_folds} folds failed, {kept}. {causes}. The same command goes on from here."
    is_mistake = all(isinstance(failure, CxrError) for failure in failures.values())
    return RunError(message) if is_mistake else FoldFailedError(message)


def _names(folds: Sequence[int]) -> str:
    return f"fold{'s' if len(folds) > 1 else ''} {', '.join(map(str, folds))}"


def train_fold(run: Run, fold: int, device: str, log: logging.Logger | logging.LoggerAdapter) -> None:
    """Train a fold unless it is complete, in a process of its own unless it takes only seconds.

    Args:
        run: the run.
        fold: number of the fold.
        device: cpu, or cuda:<index>.
        log: gets the log records of the fold's process.

    Raises:
        RunError: as for `trainer.train_fold`.
        FoldFailedError: the fold's process ended badly; another call resumes it.
    """
    if run.is_complete(fold):
        log.info("fold %d: already complete", fold)
    elif run.config.trainable == "head":
        trainer.train_fold(run, fold, device)  # a process of its own would take longer to start
    else:
        supervision.train_fold_in_child(run.folder.path, fold, device, log)
