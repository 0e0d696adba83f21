"""A fold's process and the process that started it.

The parent (a Prefect task) reads one JSON line per log record from the child's stdout and holds the
child's stdin open. When the parent dies, however it dies, stdin ends and so does the child: no fold
trains on unseen. When the child dies, the parent raises and may start it again.
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

from cxr.errors import FoldFailedError, RunError

EXTRAS = ("bar", "done", "of")


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
        RunError: the child met a user's mistake, such as a damaged checkpoint.
        FoldFailedError: the child was killed or broke down; a new call resumes the fold.
    """
    command = [sys.executable, "-P", "-m", "cxr", "train-fold", str(run_folder), str(fold), "--supervised", "--device"]
    with subprocess.Popen(
        [*command, "cuda:0" if device.startswith("cuda") else device],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=_environment(device),
    ) as child:  # fmt: skip
        assert child.stdout is not None
        last = ""
        for line in child.stdout:
            last = _forward(line.rstrip("\n"), log) or last
        code = child.wait()
    if code == 2:
        raise RunError(last.removeprefix("error: "))
    if code != 0:
        cause = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}: {last}"
        raise FoldFailedError(f"the process of fold {fold} {cause}")


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
