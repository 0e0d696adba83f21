"""What a person at the command line sees: log lines, progress bars, the table at the end, an error.

On a terminal long work shows a bar for each record that carries `bar`, `done` and `of`; elsewhere, and
in a log file, the same records are plain lines. Logs go to stderr, results to stdout.
"""

import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from cxr.errors import CxrError, FoldFailedError
from cxr.storage.local_files import DISK_FULL
from cxr.training import supervision

if TYPE_CHECKING:
    pass

FOLDS_STOP_IN_S, OTHERS_STOP_IN_S = 20, 5
"""A fold's process ends after the batch that it is at; Prefect's workers wait for 30 s."""


@contextmanager
def bars() -> Iterator[None]:
    """Show progress bars while the block runs, if stderr is a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console) as progress:
        handler = _BarHandler(progress)
        logging.getLogger().addHandler(handler)
        try:
            yield
        finally:
            logging.getLogger().removeHandler(handler)


class _BarHandler(logging.Handler):
    """Moves the bar that a record speaks of."""

    def __init__(self, progress: Progress) -> None:
        super().__init__(logging.INFO)
        self._progress = progress
        self._bars: dict[str, TaskID] = {}

    def emit(self, record: logging.LogRecord) -> None:
        name = getattr(record, "bar", None)
        if name is None:
            return
        if name not in self._bars:
            self._bars[name] = self._progress.add_task(name, total=None)
        self._progress.update(self._bars[name], completed=vars(record)["done"], total=vars(record)["of"])


@contextmanager
def log_lines() -> Iterator[None]:
    """Show the core's log records as lines on stderr, and bars, while the block runs."""
    logger = logging.getLogger("cxr")
    with bars():
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        logger.setLevel(logging.INFO)
        logger.addHandler(handler)
        try:
            yield
        finally:
            logger.removeHandler(handler)


def stop_on_signals() -> None:
    """Let Ctrl-C and SIGTERM end this process and all that it has started: exit code 130, 143.

    The folds' processes write down where they are. Nothing else is lost that a kill would not lose; Prefect,
    left to itself, would wait for its embedded server, which Ctrl-C ends as well.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)


def _stop(number: int, _: object) -> NoReturn:
    import psutil

    for again in (signal.SIGINT, signal.SIGTERM):
        signal.signal(again, signal.SIG_DFL)  # who asks twice does not want to wait
    family = psutil.Process().children(recursive=True)
    for one in family:
        one.terminate()
    psutil.wait_procs([one for one in family if one.pid in supervision.running()], timeout=FOLDS_STOP_IN_S)
    _, alive = psutil.wait_procs(family, timeout=OTHERS_STOP_IN_S)
    for one in alive:
        one.kill()
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    console.show_cursor()
    console.print("\nstopped: the same command goes on from here", style="red", markup=False)
    os._exit(128 + number)


def run_command(command: Callable[[], object]) -> NoReturn:
    """Run a command line; a user's mistake ends it with one red sentence and exit code 2."""
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    try:
        command()
    except CxrError as error:
        console.print(f"error: {error}", style="red", markup=False)
        sys.exit(2)
    except FoldFailedError as error:
        console.print(f"failed: {error}", style="red", markup=False)
        sys.exit(1)
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        console.print(f"error: no space is left on the disk ({error}): free some.", style="red", markup=False)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)
