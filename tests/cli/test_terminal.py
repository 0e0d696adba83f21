import errno
import logging
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from cxr.cli import terminal
from cxr.errors import ConfigError, FoldFailedError
from tests.support.processes import PROJECT, is_alive, wait_for


def raises(error: BaseException) -> Callable[[], object]:
    def command() -> None:
        raise error

    return command


@pytest.mark.parametrize(
    ("command", "code", "sentence"),
    [
        (lambda: None, 0, ""),
        (raises(ConfigError("give [red] paint.")), 2, "error: give [red] paint.\n"),
        (raises(FoldFailedError("fold 1 was killed.")), 1, "failed: fold 1 was killed.\n"),
        (
            raises(OSError(errno.ENOSPC, "full")),
            2,
            "error: no space is left on the disk ([Errno 28] full): free some.\n",
        ),
        (
            raises(OSError(errno.EACCES, "Permission denied", "models")),
            2,
            "error: 'models' cannot be used (Permission denied): give this user the permission, or choose another "
            "folder, then type the same command again.\n",
        ),
        (raises(KeyboardInterrupt()), 130, ""),
    ],
    ids=["success", "mistake", "failed fold", "full disk", "permission denied", "Ctrl-C"],
)
def test_a_command_ends_with_a_code_and_at_most_one_sentence(
    command: Callable[[], object], code: int, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        terminal.run_command(command)
    assert ended.value.code == code
    assert capsys.readouterr().err == sentence


@pytest.mark.parametrize("error", [OSError(errno.EBADF, "no"), OSError("no number"), KeyError("x"), BrokenPipeError()])
def test_an_error_that_is_nobodys_mistake_keeps_its_traceback(error: Exception) -> None:
    with pytest.raises(type(error)):
        terminal.run_command(raises(error))


def test_a_command_whose_output_nobody_reads_any_more_ends_quietly() -> None:
    code = "from cxr.cli import terminal; terminal.run_command(lambda: [terminal.say('x' * 99) for _ in range(99_999)])"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=PROJECT
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"x" * 99 + b"\n"
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert process.returncode == 128 + signal.SIGPIPE


def test_log_lines_of_the_core_go_to_stderr_inside_the_block_alone(capsys: pytest.CaptureFixture[str]) -> None:
    log = logging.getLogger("cxr.test")
    with terminal.log_lines():
        log.info("epoch %d", 3)
    log.info("after")
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.split(" ", 1)[1] == "epoch 3\n"


def test_a_line_is_shown_once_beside_a_handler_that_a_flow_left_at_the_root(capsys: pytest.CaptureFixture[str]) -> None:
    root, left = logging.getLogger(), logging.StreamHandler()
    root.addHandler(left)
    try:
        with terminal.log_lines():
            logging.getLogger("cxr.test").info("once")
        assert capsys.readouterr().err.count("once") == 1
        logging.getLogger("cxr.test").info("by the handler at the root")
        assert capsys.readouterr().err == "by the handler at the root\n"
    finally:
        root.removeHandler(left)


BARS = """
import logging, sys
from cxr.cli import terminal
log = logging.getLogger("cxr")
with terminal.log_lines():
    for done in (1, 2, 3):
        log.info("fold 0: epoch %d", done, extra={"bar": "fold 0", "done": done, "of": 3})
"""


def test_a_terminal_shows_a_bar_and_a_file_shows_lines() -> None:
    piped = subprocess.run([sys.executable, "-c", BARS], capture_output=True, text=True, check=True)
    assert "fold 0: epoch 3" in piped.stderr
    assert "3/3" not in piped.stderr
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen([sys.executable, "-c", BARS], stderr=theirs, env=environment) as process:
        os.close(theirs)
        shown = b""
        while b"3/3" not in shown:
            shown += os.read(ours, 4096)
        assert process.wait(timeout=60) == 0
    os.close(ours)
    assert b"fold 0" in shown


FAMILY = """
import subprocess, sys, time
from cxr.cli import terminal
terminal.stop_on_signals()
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_process_and_its_children_with_a_sentence(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", FAMILY], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert errors.endswith("stopped: rerun the same command to resume\n")
    wait_for(lambda: not is_alive(child), "the child's end", timeout_s=20)
