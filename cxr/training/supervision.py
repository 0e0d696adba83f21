"""A fold's process and the process that started it.

The parent (a Prefect task) reads one JSON line per log record from the child's stdout and holds the
child's stdin open. When the parent dies, however it dies, stdin ends and so does the child: no fold
trains on unseen. When the child dies, the parent raises and may start it again. When the parent is asked
to stop it asks the child, which writes down where it is and goes.
"""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from cxr.errors import FoldFailedError, RunError

EXTRAS = ("bar", "done", "of")
_running: set["subprocess.Popen[str]"] = set()
_stopped: set["subprocess.Popen[str]"] = set()
"""Folds' processes that this process has started, and those of them that it has asked to stop."""


class StopRequest:
    """SIGTERM or Ctrl-C: ends this process at once, or, where work is kept at a better moment, is taken note of."""

    def __init__(self) -> None:
        self._number: int | None = None
        self._is_minded = False

    def listen(self) -> None:
        """Take the signals from now on; without this nobody ever asks."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._receive)

    def _receive(self, number: int, _: FrameType | None) -> None:
        self._number = number
        if not self._is_minded:
            self.obey()

    @property
    def is_made(self) -> bool:
        """Tell whether the process has been asked to stop."""
        return self._number is not None

    @contextmanager
    def minded(self) -> Iterator[None]:
        """Leave it to the block to look at `is_made` often, and to end."""
        self._is_minded = True
        try:
            yield
        finally:
            self._is_minded = False

    def obey(self) -> None:
        """End the process if it has been asked to: exit code 143 after SIGTERM, 130 after Ctrl-C."""
        if self._number is not None:
            sys.exit(128 + self._number)


@contextmanager
def reporting_to_parent() -> Iterator[None]:
    """In the child: write log records as JSON lines to stdout, and end when the parent has ended."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_JsonFormatter())
    logger = logging.getLogger("cxr")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    yield


def _end_with_parent() -> None:
    os.read(sys.stdin.fileno(), 1)  # returns when the parent's end is closed; nothing is ever sent
    os._exit(1)


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        extra = {name: vars(record)[name] for name in EXTRAS if name in vars(record)}
        return json.dumps({"level": record.levelno, "message": record.getMessage(), "extra": extra})


def train_fold_in_child(run_folder: Path, fold: int, device: str, log: logging.Logger | logging.LoggerAdapter) -> None:
    """In the parent: train a fold in a process of its own, which sees its one device only.

    Args:
        device: cpu, or cuda:<index> as this process counts them.
        log: gets the child's log records.

    Raises:
        RunError: the child met a user's mistake, such as a damaged checkpoint, or `stop_children` has ended it.
        FoldFailedError: the child was killed or broke down; a new call resumes the fold.
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
        last = ""
        for line in child.stdout:
            last = _forward(line.rstrip("\n"), log) or last
        code = child.wait()
        _running.discard(child)
    if child in _stopped:
        _stopped.discard(child)
        raise RunError(f"fold {fold} was stopped with its run.")
    if code == 2:
        raise RunError(last.removeprefix("error: "))
    if code != 0:
        by_signal = -code if code < 0 else code - 128
        is_signal = by_signal in {int(number) for number in signal.Signals}
        cause = (
            f"was ended by {signal.Signals(by_signal).name}" if is_signal else f"ended with exit code {code}: {last}"
        )
        raise FoldFailedError(f"the process of fold {fold} {cause}")


def running() -> set[int]:
    """Return the process ids of the folds' processes that this process has started and that run."""
    return {child.pid for child in tuple(_running)}


def stop_children() -> None:
    """Ask every fold's process to stop; nobody starts it again."""
    for child in tuple(_running):
        _stopped.add(child)
        child.terminate()


def _forward(line: str, log: logging.Logger | logging.LoggerAdapter) -> str:
    """Log one line of the child's; return its text."""
    try:
        record = json.loads(line)
        log.log(record["level"], record["message"], extra=record["extra"])
        return record["message"]
    except (ValueError, TypeError, KeyError):  # a line that is not ours: a library's warning, a traceback
        log.warning("%s", line)
        return line


def _environment(device: str) -> dict[str, str]:
    environment = dict(os.environ)
    if device.startswith("cuda"):
        visible = environment.get("CUDA_VISIBLE_DEVICES", "").split(",")
        index = int(device.removeprefix("cuda:"))
        environment["CUDA_VISIBLE_DEVICES"] = visible[index] if visible != [""] else str(index)
    return environment
