"""Processes that outlive the command that starts them, known by their id and their birth.

The system gives the id of a process that has ended to another one. So `services/<name>.json` records a service's id
together with its birth (`birth_of`); `services/<name>.log` is its output. Everything that a service starts inherits a
mark in its environment: a worker that is killed leaves its flow's process running, and `marked` finds it.
"""

import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from cxr.storage import files

MARK = "CXR_SERVICES"
"""The environment variable that holds the folder of the service from which a process descends."""
STOPS_IN_S = 60
TICK = 19
"""Place of `starttime` among the fields of /proc/PID/stat that follow the process's name; see proc(5)."""


@dataclass(frozen=True)
class Service:
    """A process that outlives the command that starts it."""

    folder: Path
    name: str

    @property
    def record(self) -> Path:
        """The file with process id, birth, address and command."""
        return self.folder / f"{self.name}.json"

    @property
    def log(self) -> Path:
        """The file with its output."""
        return self.folder / f"{self.name}.log"

    @property
    def process(self) -> psutil.Process | None:
        """The process that was recorded; None if it has ended."""
        if not self.record.exists():
            return None
        facts = files.read_json(self.record)
        try:
            process = psutil.Process(facts["pid"])
            is_ours = birth_of(process) == facts["born"] and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return None
        return process if is_ours else None

    def start(self, command: list[str], environment: Mapping[str, str], address: str) -> None:
        """Start the process, detached from this terminal.

        Args:
            command: the program's path and its arguments.
            environment: of the process.
            address: of the Prefect server that it belongs to.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        streams = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(self.log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ]
        pid = os.posix_spawn(
            command[0],
            command,
            dict(environment),
            file_actions=streams,
            setsid=True,
            setsigdef=[signal.SIGINT],  # a job in a shell's background ignores SIGINT, and its children inherit that
        )
        born = birth_of(psutil.Process(pid))
        files.write_json(self.record, {"pid": pid, "born": born, "address": address, "command": command})

    def stop(self) -> bool:
        """End the process and everything that it has started; return whether it was running."""
        process = self.process
        if process is not None:
            end([process], [process, *process.children(recursive=True)])
        self.record.unlink(missing_ok=True)
        return process is not None

    def last_line(self) -> str:
        """Return the last line of the log that is not empty."""
        lines = self.log.read_text(errors="replace").split("\n") if self.log.exists() else []
        return next((line.strip() for line in reversed(lines) if line.strip()), "the log is empty")


def birth_of(process: psutil.Process) -> str:
    """Return when a process was born, so that it differs from every other process that has or will have its id.

    On Linux this is the boot and the clock ticks since then: the time of day, which psutil computes from them, moves
    when the clock is set. Elsewhere it is the time of day.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        after_name = Path(f"/proc/{process.pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return f"at {process.create_time()}"
    return f"boot {boot}, tick {int(after_name[TICK])}"


def marked(folder: Path, word: str | None = None) -> list[psutil.Process]:
    """Return the running processes that descend from a service in a folder, even if their parent has ended.

    Args:
        folder: of the services, as the mark has it.
        word: an argument that the process was started with; None for any process.
    """

    def is_marked(process: psutil.Process) -> bool:
        try:
            is_ours = process.pid != os.getpid() and process.environ().get(MARK) == str(folder)
            return is_ours and (word is None or word in process.cmdline())
        except psutil.Error:  # it has ended, or belongs to another user
            return False

    return [process for process in psutil.process_iter() if is_marked(process)]


def end(asked: Sequence[psutil.Process], family: Sequence[psutil.Process]) -> None:
    """Ask processes to end, and kill whatever of their family is still running after a minute.

    Args:
        asked: get SIGTERM.
        family: are waited for, and killed.
    """
    for process in asked:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    _, alive = psutil.wait_procs(family, timeout=STOPS_IN_S)
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=STOPS_IN_S)
