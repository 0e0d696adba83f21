from pathlib import Path

import pytest

from cxr.errors import ConfigError, RunError
from flows.cli import app


def test_deployments_need_the_address_of_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    with pytest.raises(RunError, match="PREFECT_API_URL names no Prefect server: set it, or start one"):
        app(["deploy"])
    with pytest.raises(ConfigError, match="--wait must be 0 or more, got -1"):
        app(["deploy", "--wait=-1"])


def test_nothing_is_stopped_where_nothing_was_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    app(["down", f"--services={tmp_path / 'services'}"])
    assert capsys.readouterr().out == "nothing was up\n"


def test_the_page_needs_a_port_that_exists() -> None:
    with pytest.raises(ConfigError, match="--port must lie between 0 and 65535, got 70000"):
        app(["app", "--port=70000"])
