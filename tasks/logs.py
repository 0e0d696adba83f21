"""The core's log records, shown in the task run that caused them."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from prefect.logging import get_run_logger

from cxr.training.supervision import EXTRAS
from cxr.wording import visible


class _RunLogHandler(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._run_log = get_run_logger()

    def emit(self, record: logging.LogRecord) -> None:
        extra = {name: vars(record)[name] for name in EXTRAS if name in vars(record)}
        self._run_log.log(record.levelno, "%s", visible(record.getMessage()), extra=extra)


@contextmanager
def core_logs() -> Iterator[None]:
    """Inside the block, send the core's log records to the log of the current task run."""
    logger = logging.getLogger("cxr")
    handler = _RunLogHandler()
    logger.setLevel(logging.INFO)
    logger.propagate = False  # the task run's log has a console handler of its own
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = True
