"""Faults at an exact step: the operating system refuses a file operation, or the process is killed at it."""

import errno
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from cxr.config import ScoreConfig

CHANGES = ("os.mkdir", "os.remove", "os.rename", "os.rmdir", "shutil.rmtree")
"""Audit events of what changes a folder."""
_watch: Callable[[str, str], None] | None = None


@cache
def _listen() -> None:
    """Hand the interpreter's audit events to whoever watches; a hook cannot be taken away again."""

    def hook(event: str, args: tuple[object, ...]) -> None:
        if _watch is not None and (event == "open" or event in CHANGES) and isinstance(args[0], str | os.PathLike):
            _watch(event, os.fspath(args[0]))

    sys.addaudithook(hook)


@contextmanager
def watching(watch: Callable[[str, str], None]) -> Iterator[None]:
    """Call `watch` with the event and the path before each file operation in the block; what it raises, ends it."""
    global _watch  # noqa: PLW0603 there is one interpreter
    _listen()
    _watch = watch
    try:
        yield
    finally:
        _watch = None


def at_step(step: int, place: Path, act: Callable[[str], None]) -> Callable[[str, str], None]:
    """Return a watcher that acts at the change with this number, counted from 1, to paths that begin with `place`."""
    n_changes = 0

    def watch(event: str, path: str) -> None:
        nonlocal n_changes
        if event != "open" and path.startswith(str(place)):
            n_changes += 1
            if n_changes == step:
                act(path)

    return watch


def refuse(path: str) -> None:
    """Refuse an operation as a failing disk does."""
    raise OSError(errno.EIO, os.strerror(errno.EIO), path)


def _kill(path: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _score(inbox: Path, config: ScoreConfig) -> None:
    from cxr.pipeline import score_inbox

    score_inbox(inbox, config, lambda *_: [])


def killed_at(step: int, place: Path, inbox: Path, config: ScoreConfig) -> bool:
    """Score an inbox in a process that is killed as `at_step` acts; return whether it came to that."""
    return dies_at(step, place, _score, inbox, config)


def _call_and_die(step: int, place: Path, function: Callable[..., object], args: tuple[object, ...]) -> None:
    with watching(at_step(step, place, _kill)):
        function(*args)


def dies_at(step: int, place: Path, function: Callable[..., object], *args: object) -> bool:
    """Call a function in a process that is killed as `at_step` acts; return whether it came to that."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["cxr.export.build", "cxr.pipeline", "cxr.serving.registry"])
    process = context.Process(target=_call_and_die, args=(step, place, function, args))
    process.start()
    process.join(120)
    assert process.exitcode in (0, -signal.SIGKILL), process.exitcode
    return process.exitcode != 0


def _write_dicom_and_die(n_written: int, home: Path, place: Path) -> None:
    from cxr.dicom_results.results import write_and_send
    from tests.support.scoring import score_to_dicom

    run = score_to_dicom(home, place)
    left = n_written

    def watch(event: str, path: str) -> None:
        nonlocal left
        if event == "os.rename" and path.endswith(".tmp") and "/.2.25." in path:
            if left == 0:
                _kill(path)
            left -= 1

    with watching(watch):
        write_and_send(run)


def killed_at_putting(n_written: int, home: Path, place: Path) -> bool:
    """Write DICOM results in a process that is killed before the next instance gets its name; return whether it was.

    Args:
        n_written: instances that got theirs.
        home: has the model.
        place: has the inbox, the scores and the results.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["cxr.export.build", "cxr.pipeline", "cxr.serving.registry"])
    process = context.Process(target=_write_dicom_and_die, args=(n_written, home, place))
    process.start()
    process.join(120)
    assert process.exitcode in (0, -signal.SIGKILL), process.exitcode
    return process.exitcode != 0
