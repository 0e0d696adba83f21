"""The core's log records, shown in the run that caused them."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from prefect.logging import get_run_logger

from cxr.training.supervision import EXTRAS


class _RunLogHandler(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._run_log = get_run_logger()

    def emit(self, record: logging.LogRecord) -> None:
        extra = {name: vars(record)[name] for name in EXTRAS if name in vars(record)}
        self._run_log.log(record.levelno, record.getMessage(), extra=extra)


@contextmanager
def core_logs() -> Iterator[None]:
    """Send what the core logs inside the block to the log of the task run around it."""
    logger = logging.getLogger("cxr")
    handler = _RunLogHandler()
    logger.setLevel(logging.INFO)
    logger.propagate = False  # the run's log has a console of its own
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = True
