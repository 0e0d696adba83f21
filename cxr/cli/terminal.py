"""How a command runs in a terminal: log lines and progress bars while it works, signals and errors at its end.

On a terminal, long work shows a progress bar for each log record with the attributes `bar`, `done` and `of`; elsewhere
the same records are plain lines. Logs go to stderr, results to stdout. Both go through `visible`: names in them come
from outside. How much of this is shown is set once for a command, by `loudness`.
"""

import logging
import os
import select
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Event
from typing import NoReturn

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from cxr.cli import system_errors
from cxr.errors import CxrError, FoldFailedError
from cxr.training import supervision
from cxr.wording import visible

PIPE_CLOSED = 128 + signal.SIGPIPE
FOLDS_STOP_IN_S = 20
"""A fold's process ends after its current batch; Prefect's workers wait for 30 s."""
OTHERS_STOP_IN_S = 5
LINE = "%(asctime)s %(message)s"
LINE_WITH_ITS_SOURCE = "%(asctime)s %(levelname)s %(name)s: %(message)s"

log = logging.getLogger(__name__)
_level: ContextVar[int] = ContextVar("level", default=logging.INFO)
"""Least level of the log records that are shown."""


@contextmanager
def loudness(*, quiet: bool = False, verbose: bool = False) -> Iterator[None]:
    """Inside the block, show errors alone (quiet), or also debug records and where each comes from (verbose)."""
    before = _level.set(logging.ERROR if quiet else logging.DEBUG if verbose else logging.INFO)
    try:
        yield
    finally:
        _level.reset(before)


def is_quiet() -> bool:
    """Return whether nothing but errors is shown."""
    return _level.get() >= logging.ERROR


def is_verbose() -> bool:
    """Return whether debug records are shown."""
    return _level.get() <= logging.DEBUG


@contextmanager
def bars() -> Iterator[None]:
    """Show progress bars inside the block, if stderr is a terminal, unless the command is quiet."""
    console = Console(stderr=True)
    if not console.is_terminal or is_quiet():
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
    """Advances the bar that a log record names."""

    def __init__(self, progress: Progress) -> None:
        super().__init__(logging.INFO)
        self._progress = progress
        self._bars: dict[str, TaskID] = {}

    def emit(self, record: logging.LogRecord) -> None:
        name = getattr(record, "bar", None)
        if name is None:
            return
        if name not in self._bars:
            self._bars[name] = self._progress.add_task(escape(visible(name)), total=None)
        self._progress.update(self._bars[name], completed=vars(record)["done"], total=vars(record)["of"])


class _LineFormatter(logging.Formatter):
    """Writes a record's message on one line; a traceback keeps its own."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 logging's name
        return visible(super().formatMessage(record))


def say(line: object = "") -> None:
    """Print one line of results, unless the command is quiet."""
    if not is_quiet():
        print(visible(line), flush=True)


@contextmanager
def log_lines() -> Iterator[None]:
    """Show the core's log records as lines on stderr, and progress bars, inside the block.

    Each is shown once, also where a flow that ran before in this process has left a handler at the root.
    """
    logger = logging.getLogger("cxr")
    with bars():
        handler = line_handler()
        logger.setLevel(min(logging.INFO, handler.level))  # records of progress, for the bars
        logger.addHandler(handler)
        logger.propagate = not any(vars(other).get("stream") is sys.stderr for other in logging.getLogger().handlers)
        try:
            yield
        finally:
            logger.propagate = True
            logger.removeHandler(handler)


@contextmanager
def bare_lines(name: str) -> Iterator[None]:
    """Show the records of one logger as they are, without the time, inside the block: each is a document."""
    logger = logging.getLogger(name)
    handler = line_handler()
    handler.setFormatter(_LineFormatter("%(message)s"))
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.propagate = True
        logger.removeHandler(handler)


def line_handler() -> logging.Handler:
    """Return a handler that writes records as lines to stderr, as many as the command shows."""
    handler = logging.StreamHandler()
    handler.setLevel(_level.get())
    handler.setFormatter(_LineFormatter(LINE_WITH_ITS_SOURCE if is_verbose() else LINE, "%H:%M:%S"))
    return handler


def wait_for_signal() -> int:
    """Return the number of the first Ctrl-C or SIGTERM; a second one ends the process at once."""
    came = Event()
    numbers: list[int] = []

    def note(number: int, _: object) -> None:
        for other, before in handlers.items():
            signal.signal(other, before)
        numbers.append(number)
        came.set()

    handlers = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    came.wait()
    return numbers[0]


def stop_on_signals() -> None:
    """Let Ctrl-C and SIGTERM end this process and all its children, with exit code 130 or 143.

    Each fold's process saves its state first. Without this, Prefect would wait for its embedded server, which the same
    Ctrl-C ends.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)


def _stop(number: int, _: object) -> NoReturn:
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signal_number, signal.SIG_DFL)  # a second Ctrl-C ends the process at once
    _end_children()
    logging.disable()  # what other threads still have to say is no news
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    console.show_cursor()
    console.print("\nstopped: rerun the same command to resume", style="red", markup=False)
    os._exit(128 + number)


def _end_children() -> None:
    """Let the folds save their state, terminate all other descendants, and kill those that do not end."""
    import psutil

    family = psutil.Process().children(recursive=True)
    folds = supervision.stop_children()
    for process in family:
        if process.pid not in folds:
            process.terminate()
    supervision.wait_for_children(FOLDS_STOP_IN_S)
    _, alive = psutil.wait_procs(family, timeout=OTHERS_STOP_IN_S)
    for process in alive:
        process.kill()


def show_origin(error: Exception) -> None:
    """Show where an error was raised, if the command is verbose."""
    if is_verbose():
        with log_lines():
            log.debug("the error below was raised here", exc_info=error)


def run_command(command: Callable[[], object]) -> NoReturn:
    """Run a command line and exit: with 0, or a red sentence and 2 for a user's mistake, 1 for a failed fold.

    What the operating system refuses is a sentence too, unless only a mistake of this program can be behind it.
    """
    try:
        command()
    except CxrError as error:
        _exit_with(f"error: {error}", 2)
    except FoldFailedError as error:
        _exit_with(f"failed: {error}", 1)
    except BrokenPipeError:
        _exit_without_reader()
        raise
    except OSError as error:
        if not system_errors.is_explained(error):
            raise
        _exit_with(f"error: {system_errors.explain(error)}", 2)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)


def _exit_without_reader() -> None:
    """End quietly if nobody reads what is printed any more, as after `cxr runs | head`; otherwise do nothing."""
    output = select.poll()
    output.register(sys.stdout.fileno(), 0)
    if any(event & select.POLLERR for _, event in output.poll(0)):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python still flushes at its end
        sys.exit(PIPE_CLOSED)


def _exit_with(sentence: str, code: int) -> NoReturn:
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    console.print(visible(sentence), style="red", markup=False, emoji=False)
    sys.exit(code)
