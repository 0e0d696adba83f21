import errno
import logging
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from cxr.errors import ConfigError, RunError
from flows.prefect_session import _keeps_unknown_errors, require_named_server
from tests.support.processes import BIN


def test_services_are_known_without_torch() -> None:
    code = "import sys; import deployments.services; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def record_of(error: Exception) -> logging.LogRecord:
    try:
        raise error
    except Exception:
        return logging.LogRecord("prefect.flow_runs", logging.ERROR, "", 0, "Finished in Failed", None, sys.exc_info())


def test_the_traceback_of_a_known_error_is_dropped_and_that_of_any_other_kept() -> None:
    assert not _keeps_unknown_errors(record_of(RunError("run run is in use")))
    assert not _keeps_unknown_errors(record_of(httpx.ConnectError("connection refused")))
    assert not _keeps_unknown_errors(record_of(PermissionError(errno.EACCES, "Permission denied", "models")))
    assert _keeps_unknown_errors(record_of(OSError(errno.EBADF, "Bad file descriptor")))
    assert _keeps_unknown_errors(record_of(KeyError("subtype")))
    assert _keeps_unknown_errors(logging.LogRecord("prefect", logging.INFO, "", 0, "a plain line", None, None))


def test_a_named_server_that_is_away_is_reported_and_none_is_fine() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{probe.getsockname()[1]}/api"
    with (
        temporary_settings({PREFECT_API_URL: address}),
        pytest.raises(RunError, match=f"no Prefect server answers at {address}, where PREFECT_API_URL points"),
    ):
        require_named_server()
    with temporary_settings({PREFECT_API_URL: None}):
        require_named_server()


def test_a_named_server_that_is_not_up_yet_is_waited_for() -> None:
    with socket.socket() as late:
        late.bind(("127.0.0.1", 0))  # it refuses connections until it listens
        address = f"http://127.0.0.1:{late.getsockname()[1]}/api"
        timer = threading.Timer(0.5, answer_once, [late])
        timer.start()
        with temporary_settings({PREFECT_API_URL: address}):
            assert require_named_server(patience_s=60) == address
        timer.join()


def answer_once(listener: socket.socket) -> None:
    listener.listen()
    connection, _ = listener.accept()
    with connection:
        connection.recv(4096)
        connection.sendall(b"HTTP/1.0 200 OK\r\n\r\ntrue")


@pytest.mark.parametrize("name", ["HOME", "PREFECT_HOME"])
def test_without_a_folder_for_prefects_files_the_way_out_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.delenv("PREFECT_HOME", raising=False)
    monkeypatch.setenv(name, str(tmp_path / "file" / "home"))
    with pytest.raises(ConfigError, match=r"^Prefect needs a folder for its files \(.*\): set HOME or PREFECT_HOME to"):
        require_named_server()


@pytest.mark.faults
def test_an_embedded_server_that_takes_too_long_is_one_sentence(sample: Path, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    environment |= {"PREFECT_HOME": str(tmp_path), "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "1"}
    places = [f"--experiments={tmp_path / 'experiments'}", f"--cache={tmp_path / 'cache'}"]
    command = [BIN / "cxr", "validate", f"--data={sample}", *places]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert result.returncode == 2
    assert "error: Prefect's server did not start in time: this machine is too busy. Rerun the same" in result.stderr
    assert "Traceback" not in result.stderr
