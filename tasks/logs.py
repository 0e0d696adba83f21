"""The core's log records, shown in the task run that caused them, and marked there as the core's."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from prefect.context import TaskRunContext
from prefect.logging import get_run_logger
from prefect.logging.loggers import PrefectLogAdapter

from cxr.training.supervision import EXTRAS
from cxr.wording import visible

OF_THE_CORE = "of_the_core"
"""An attribute of the core's records among those of Prefect."""


def core_log() -> PrefectLogAdapter:
    """Return the log of the current task run, for records of the core."""
    log = cast(PrefectLogAdapter, get_run_logger())
    return PrefectLogAdapter(log.logger, {**(log.extra or {}), OF_THE_CORE: True})


class _RunLogHandler(logging.Handler):
    """Sends records to the log of the task run that it was made in, but not those that another task run causes."""

    def __init__(self) -> None:
        super().__init__()
        self._task_run = TaskRunContext.get()
        self._run_log = core_log()

    def emit(self, record: logging.LogRecord) -> None:
        context = TaskRunContext.get()  # None in a thread of the core's own
        if context is not None and context is not self._task_run:
            return
        extra = {name: vars(record)[name] for name in EXTRAS if name in vars(record)}
        self._run_log.log(record.levelno, "%s", visible(record.getMessage()), extra=extra)


@contextmanager
def core_logs() -> Iterator[None]:
    """Inside the block, send the core's log records to the log of the current task run."""
    logger = logging.getLogger("cxr")
    handler = _RunLogHandler()
    propagates = logger.propagate
    if not logger.isEnabledFor(logging.INFO):
        logger.setLevel(logging.INFO)
    logger.propagate = False  # the task run's log has a console handler of its own
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagates
