"""A fold's process and the process that started it.

The parent (a Prefect task) reads one JSON line per log record from the child's stdout, and holds the child's stdin
open. However the parent dies, that pipe closes and the child ends: no fold trains on unseen. When the child dies, the
parent raises an error and may start it again. When the parent is asked to stop, it asks the child, which writes a
checkpoint and exits.
"""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from cxr.errors import FoldFailedError, RunError
from cxr.wording import visible

EXTRAS = ("bar", "done", "of")
_running: set["subprocess.Popen[str]"] = set()
"""Folds' processes that this process has started."""
_stopped: set["subprocess.Popen[str]"] = set()
"""Those of them that it has asked to stop."""


class StopRequest:
    """SIGTERM or Ctrl-C: ends this process at once, or, inside `deferred`, when the work at hand has been saved."""

    def __init__(self) -> None:
        self._number: int | None = None
        self._is_deferred = False

    def listen(self) -> None:
        """Handle the two signals from now on; before, no stop is ever requested."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._receive)

    def _receive(self, number: int, _: FrameType | None) -> None:
        self._number = number
        if not self._is_deferred:
            self.exit_if_requested()

    @property
    def is_requested(self) -> bool:
        """Whether the process has been asked to stop."""
        return self._number is not None

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Inside the block a signal only sets `is_requested`; the block has to poll it, and to end."""
        self._is_deferred = True
        try:
            yield
        finally:
            self._is_deferred = False

    def exit_if_requested(self) -> None:
        """Exit if a stop was requested, with code 143 after SIGTERM and 130 after Ctrl-C."""
        if self._number is not None:
            sys.exit(128 + self._number)


@contextmanager
def reporting_to_parent() -> Iterator[None]:
    """In the child: write log records to stdout as JSON lines, and end when the parent ends."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_JsonFormatter())
    logger = logging.getLogger("cxr")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    yield


def _end_with_parent() -> None:
    os.read(sys.stdin.fileno(), 1)  # returns when the parent's end closes; nothing is ever sent
    os._exit(1)


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        extra = {name: vars(record)[name] for name in EXTRAS if name in vars(record)}
        return json.dumps({"level": record.levelno, "message": record.getMessage(), "extra": extra})


def train_fold_in_child(run_folder: Path, fold: int, device: str, log: logging.Logger | logging.LoggerAdapter) -> None:
    """In the parent: train a fold in a process of its own, which sees only its own device.

    Args:
        run_folder: folder of the run.
        fold: number of the fold.
        device: cpu, or cuda:<index> as this process counts them.
        log: gets the child's log records.

    Raises:
        RunError: the child met a mistake of the user's, such as a damaged checkpoint, or `stop_children` ended it.
        FoldFailedError: the child was killed or crashed; another call resumes the fold.
    """
    command = [sys.executable, "-P", "-m", "cxr", "train-fold", str(run_folder), str(fold), "--supervised", "--device"]
    with subprocess.Popen(
        [*command, "cuda:0" if device.startswith("cuda") else device],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=_environment(device),
    ) as child:
        assert child.stdout is not None
        _running.add(child)
        last_line = ""
        for line in child.stdout:
            last_line = _forward(line.rstrip("\n"), log) or last_line
        code = child.wait()
        _running.discard(child)
    if child in _stopped:
        _stopped.discard(child)
        raise RunError(f"fold {fold} was stopped with its run.")
    if code == 2:
        raise RunError(last_line.removeprefix("error: "))
    if code != 0:
        raise FoldFailedError(f"the process of fold {fold} {_ending(code, last_line)}")


def _ending(code: int, last_line: str) -> str:
    """Return how a process ended, in words: negative codes, and those above 128, name a signal."""
    number = -code if code < 0 else code - 128
    if number in {int(known) for known in signal.Signals}:
        return f"was ended by {signal.Signals(number).name}"
    return f"ended with exit code {code}: {last_line}"


def stop_children() -> set[int]:
    """Ask every fold's process to stop; it is not started again. Return their process ids."""
    asked = tuple(_running)
    for child in asked:
        _stopped.add(child)
        child.terminate()
    return {child.pid for child in asked}


def wait_for_children(timeout_s: float) -> None:
    """Wait until every fold's process has ended and all that it had to say is logged, or until the time is up."""
    deadline = time.monotonic() + timeout_s
    while _running and time.monotonic() < deadline:
        time.sleep(0.05)


def _forward(line: str, log: logging.Logger | logging.LoggerAdapter) -> str:
    """Log one line of the child's output; return its text."""
    try:
        record = json.loads(line)
        log.log(record["level"], "%s", visible(record["message"]), extra=record["extra"])
        return record["message"]
    except (ValueError, TypeError, KeyError):  # not a record: a library's warning, or a traceback
        log.warning("%s", visible(line))
        return line


def _environment(device: str) -> dict[str, str]:
    """Return this process's environment, in which the child sees one GPU, or all if it trains on the CPU."""
    environment = dict(os.environ)
    if device.startswith("cuda"):
        visible = environment.get("CUDA_VISIBLE_DEVICES", "").split(",")
        index = int(device.removeprefix("cuda:"))
        environment["CUDA_VISIBLE_DEVICES"] = visible[index] if visible != [""] else str(index)
    return environment
