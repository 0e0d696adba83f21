"""Prefect's settings for one command: defaults, signals, log lines, and errors in one sentence."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty

from cxr.application import quick_imports
from cxr.errors import ConfigError, CxrError, FoldFailedError, RunError

RETRY = "Task run failed with "
"""How the record begins with which Prefect tells that a task will be tried again."""
START = "Starting temporary server"
"""How the record begins with which Prefect tells that a server starts which lives as long as the command."""
END = "Finished in state"
"""How the record begins with which Prefect tells how a run has ended, which the command says in its own words."""


@contextmanager
def prefect_session() -> Iterator[None]:
    """Set Prefect's defaults before it is imported; show progress bars; report known errors in one sentence."""
    from httpx import TransportError

    from cxr.cli import terminal
    from deployments import prefect_home
    from deployments.services import PREFECT_DEFAULTS

    for name, value in (PREFECT_DEFAULTS | prefect_home.home_settings(os.environ)).items():
        os.environ.setdefault(name, value)
    for name in ("prefect.flow_runs", "prefect.task_runs"):
        logging.getLogger(name).addFilter(_keeps_unknown_errors)
    terminal.stop_on_signals()
    if require_named_server() is None:
        prefect_home.require_readable_database(os.environ)
    with _lines():
        try:
            yield
        except TransportError as error:
            _give_up_events()
            raise RunError(
                f"Prefect's server no longer answers ({error}). Finished work is kept: the same command goes on from "
                "here once the server is up again."
            ) from error
        except RuntimeError as error:
            if "ephemeral Prefect API server" not in str(error):
                raise
            raise RunError(
                "Prefect's server did not start in time: this machine is too busy. Rerun the same command, or start "
                "the server once for all commands (`cxr up`)."
            ) from error


def _give_up_events() -> None:
    """Drop the events that wait for a server that is gone.

    At its end the process would try each of them for seven seconds, minutes in all, and print an error for it.
    """
    from prefect.events.worker import EventsWorker

    for worker in tuple(EventsWorker._instances.values()):  # a worker that ends takes itself out
        with suppress(Empty):
            while True:
                worker._queue.get_nowait()


@contextmanager
def _lines() -> Iterator[None]:
    """Show log lines and bars inside the block as `python -m cxr` does; afterwards Prefect's console stays silent.

    The core's records come by way of a task run's log, where `tasks.logs` has marked them, or directly.
    """
    import prefect.main  # noqa: F401 it configures logging, which removes all handlers that are there before

    from cxr.cli import terminal

    root, core = logging.getLogger(), logging.getLogger("cxr")
    for handler in [handler for handler in root.handlers if type(handler).__name__ == "PrefectConsoleHandler"]:
        root.removeHandler(handler)
    with terminal.bars():
        handler = terminal.line_handler()
        core.setLevel(min(logging.INFO, handler.level))
        if terminal.is_verbose():
            logging.getLogger("prefect.task_runs").setLevel(logging.DEBUG)
        else:
            handler.addFilter(_is_for_people)
        root.addHandler(handler)
        try:
            yield
        finally:
            root.removeHandler(handler)


def _is_for_people(record: logging.LogRecord) -> bool:
    """Return whether a record is the core's; or Prefect's, and a warning, or tells of a retry or of its server."""
    from tasks.logs import OF_THE_CORE

    if record.name.partition(".")[0] == "cxr" or OF_THE_CORE in vars(record):
        return True
    message = str(record.msg)
    if message.startswith(START):
        record.msg, record.args = "starting a Prefect server for this command; `cxr up` keeps one running", ()
        return True
    return message.startswith(RETRY) or (record.levelno >= logging.WARNING and not message.startswith(END))


def require_named_server(patience_s: float = 0) -> str | None:
    """Return the address of the server that Prefect's settings name; None if they name none.

    Args:
        patience_s: how long to wait for the server's first answer.

    Raises:
        ConfigError: Prefect cannot keep its files anywhere.
        RunError: the server does not answer.
    """
    _require_home()
    with quick_imports(to_stay=True):
        from prefect.settings import get_current_settings

        from deployments.services import answers

    address = get_current_settings().api.url
    if address is not None and not answers(address, patience_s):
        raise RunError(
            f"no Prefect server answers at {address}, where PREFECT_API_URL points: start it (`cxr up`), or unset "
            "PREFECT_API_URL to use one that runs as long as the command."
        )
    return address


def _require_home() -> None:
    """Raise ConfigError if Prefect cannot keep its files: its server would fail and start again without an end."""
    try:
        home = Path(os.environ.get("PREFECT_HOME") or Path.home() / ".prefect").expanduser()
        home.mkdir(parents=True, exist_ok=True)
        os.scandir(home).close()
    except (OSError, RuntimeError) as error:  # there is neither HOME nor an entry for the user
        raise ConfigError(
            f"Prefect needs a folder for its files ({error}): set HOME or PREFECT_HOME to one that you may write to."
        ) from error
    if not os.access(home, os.W_OK):
        raise ConfigError(f"Prefect may not write to {str(home)!r}: set PREFECT_HOME to a folder of your own.")


def _keeps_unknown_errors(record: logging.LogRecord) -> bool:
    """Return False for the traceback of an error that the command reports in one sentence."""
    from httpx import TransportError

    from cxr.cli.system_errors import is_explained

    error = record.exc_info[1] if record.exc_info else None
    is_known = isinstance(error, CxrError | FoldFailedError | TransportError)
    return not (is_known or (isinstance(error, OSError) and is_explained(error)))
