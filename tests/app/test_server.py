import socket
from pathlib import Path

import pytest

from app import server
from app.server import Folders
from cxr.errors import ConfigError


def test_the_command_passes_on_the_folders_and_asks_for_the_loopback_address(tmp_path: Path) -> None:
    folders = Folders(tmp_path / "e=1", tmp_path / "m", tmp_path / "s", tmp_path / "c")
    address, command = server.prepare(folders, 0)
    assert address.startswith("http://127.0.0.1:")
    assert {"--server.address=127.0.0.1", "--browser.gatherUsageStats=false"} <= set(command)
    assert Folders.from_arguments(command[command.index("--") + 1 :]) == folders


def test_a_missing_library_is_named_with_the_extra_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"the page needs streamlit, which is not installed: .* extra \[page\]"):
        server.prepare(Folders(), 0)


def test_a_port_that_is_taken_or_out_of_range_is_refused() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigError, match=r"port \d+ cannot be used"):
            server.prepare(Folders(), taken.getsockname()[1])
    with pytest.raises(ConfigError, match="--port must lie between 0 and 65535, got 65536"):
        server.prepare(Folders(), 65536)


def test_only_runs_may_be_in_an_object_store() -> None:
    with pytest.raises(ConfigError, match="--models"):
        Folders(models=Path("s3://bucket/models")).as_arguments()
