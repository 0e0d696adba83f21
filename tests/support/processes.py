"""Processes that tests start, watch and kill."""

import multiprocessing
import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryFile

import psutil

BIN = Path(sys.executable).parent
PROJECT = Path(__file__).parents[2]


@contextmanager
def lock_holder(lock: Path, what: str) -> Iterator[subprocess.Popen[bytes]]:
    """Hold a lock in another process until that is killed or the block ends; yields the process."""
    words = f"with files.locked(files.located(Path({str(lock)!r})), {what!r}): print(); input()"
    code = f"from pathlib import Path; from cxr.storage import files\n{words}"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


def run_to_the_end(command: list[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command with its output kept; its exit code is the caller's to check."""
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=400, check=False)


def run_on_a_terminal(command: list[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command whose standard error is a terminal, and return what was shown there without colours and cursors.

    Its standard output and its exit code are as `run_to_the_end` returns them.
    """
    ours, theirs = pty.openpty()
    shown = b""
    environment = dict(environment) | {"TERM": "xterm", "COLUMNS": "200"}
    with (
        TemporaryFile() as out,
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=theirs, env=environment) as process,
    ):
        os.close(theirs)
        with suppress(OSError):  # the other end is closed
            while part := os.read(ours, 65536):
                shown += part
        os.close(ours)
        process.wait()
        out.seek(0)
        written = out.read().decode()
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode(errors="replace")).replace("\r", "\n")
    return subprocess.CompletedProcess(command, process.returncode, written, lines)


def start_and_wait_for(
    line: str, command: list[str], folder: Path, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Start a process that logs to `folder`/log; return it once `line` is in the log."""
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    wait_for(lambda: line in (folder / "log").read_text() or process.poll() is not None, line)
    assert process.poll() is None, (folder / "log").read_text()
    return process


def is_alive(pid: int) -> bool:
    """Return whether a process runs; one that has ended and was not waited for does not."""
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


def wait_for(is_there: Callable[[], object], what: str, timeout_s: float = 240) -> None:
    """Wait until a condition holds; `what` names it in the failure."""
    deadline = time.monotonic() + timeout_s
    while not is_there():
        assert time.monotonic() < deadline, f"{what} did not come within {timeout_s} s"
        time.sleep(0.05)


def somebody_elses_packages(place: Path) -> str:
    """Make packages with the names of the project's that cannot be imported; return a PYTHONPATH that begins there."""
    folder = place / "somebody-elses"
    for name in ("app", "data_checks", "deployments", "flows", "tasks"):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(f"raise ImportError('somebody else\\'s {name}')\n")
    return os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))


def kill_with_family(process: psutil.Process) -> None:
    """Kill a worker, the flow that it runs, and the fold's process, as when a machine goes down."""
    if process.is_running():
        family = [process, *process.children(recursive=True)]
        for member in family:
            member.kill()
        psutil.wait_procs(family, timeout=20)


def start_process(function: Callable[..., object], *args: object) -> BaseProcess:
    """Call a function in a process of its own, which does not have to import torch again."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["cxr.export.build", "cxr.pipeline", "cxr.serving.registry"])
    process = context.Process(target=function, args=args)
    process.start()
    return process
