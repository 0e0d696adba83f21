import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from cxr.storage import files
from deployments import processes
from deployments.processes import MARK, Service, marked

SLEEP = ["/bin/sh", "-c", "echo ready; trap 'kill $!' TERM; sleep 600 & wait"]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """A service that sleeps, in a child of its own."""
    service = Service(tmp_path, "sleeper")
    service.start(SLEEP, os.environ | {MARK: str(tmp_path)}, "http://127.0.0.1:1")
    deadline = time.monotonic() + 30
    while not (service.process and service.process.children()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    yield service
    service.stop()


def test_a_service_is_found_by_its_record_and_stopped_with_its_children(service: Service) -> None:
    process = service.process
    assert process is not None
    family = [process, *process.children(recursive=True)]
    assert len(family) == 2
    assert service.last_line() == "ready"
    assert service.stop()
    assert not any(member.is_running() for member in family)
    assert not service.record.exists()
    assert not service.stop(), "it is stopped already"


def test_a_process_that_got_the_id_of_an_ended_one_is_not_ours(tmp_path: Path) -> None:
    service = Service(tmp_path, "server")
    files.write_json(service.record, {"pid": os.getpid(), "born": 0.0, "address": "", "command": []})
    assert service.process is None
    assert not service.stop()


def test_a_step_of_the_clock_does_not_make_a_service_unknown(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    process = service.process
    assert process is not None
    before = psutil.Process(process.pid).create_time()
    boot = psutil.boot_time()
    monkeypatch.setattr("psutil._pslinux.boot_time", lambda: boot + 2)  # the kernel's btime follows the clock
    assert psutil.Process(process.pid).create_time() == pytest.approx(before + 2, abs=0.1), "psutil's does"
    found = service.process
    assert found is not None
    assert found.pid == process.pid


def test_two_processes_are_born_at_different_ticks_and_where_there_is_no_proc_the_time_of_day_counts() -> None:
    with subprocess.Popen(["/bin/sleep", "60"]) as child:
        ours, theirs = psutil.Process(), psutil.Process(child.pid)
        assert processes.birth_of(ours) == processes.birth_of(psutil.Process())
        assert processes.birth_of(ours) != processes.birth_of(theirs)
        child.kill()
    assert child.wait() != 0
    assert processes.birth_of(theirs).startswith("at "), "it has ended"


def test_a_service_that_never_wrote_a_line_says_so(tmp_path: Path) -> None:
    assert Service(tmp_path, "server").last_line() == "the log is empty"


def test_what_a_killed_service_leaves_is_found_by_its_mark(service: Service) -> None:
    process = service.process
    assert process is not None
    (child,) = process.children()
    process.kill()
    process.wait()
    assert service.process is None
    assert marked(service.folder) == [child]
    assert marked(service.folder, "600") == [child]
    assert marked(service.folder, "601") == []
    assert marked(service.folder / "another") == []
    processes.end([child], [child])
    assert not child.is_running()


def test_a_process_that_ignores_the_request_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "STOPS_IN_S", 0.2)
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", stubborn], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        process = psutil.Process(child.pid)
        processes.end([process], [process])
        assert not process.is_running()
