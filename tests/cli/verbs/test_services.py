import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.command import Ended, run_here

TOKEN = "0123456789abcdef"  # noqa: S105 the tests' own


@pytest.fixture
def serve(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ended]:
    """Run `cxr serve` in this process: serve("--name=tiny", token=None)."""

    def run(*words: str, token: str | None = None) -> Ended:
        monkeypatch.delenv("CXR_TOKEN", raising=False)
        if token is not None:
            monkeypatch.setenv("CXR_TOKEN", token)
        return run_here(["serve", *words], capfd)

    return run


@pytest.mark.parametrize(
    ("words", "token", "sentence"),
    [
        (["--name=nobody"], None, "error: model 'nobody' in "),
        (["--name=tiny", "--host=0.0.0.0"], None, "error: --host '0.0.0.0' is reached from other machines"),
        (["--name=tiny", "--token=short"], None, "error: --token must have 16 or more ASCII characters"),
        (["--name=tiny"], "short", "error: --token must have 16 or more ASCII characters"),
        (["--name=tiny"], "", "error: --token is empty: give a value, or leave it out."),
        (["--name=nobody", "--host=0.0.0.0"], TOKEN, "error: model 'nobody' in "),
        (["--name=tiny", "--max-images=0"], None, "error: --max-images must lie between 1 and 1000, got 0."),
        (["--name=tiny", "--timeout=inf"], None, "error: --timeout must lie between 1 and 3600, got inf."),
        (["--name=tiny", "--device=cuda:99"], None, "error: device 'cuda:99' does not exist"),
        (["--name=tiny", "--device=cpu", "--precision=int8"], None, "error: --precision int8 is not available"),
    ],
)
def test_a_mistake_ends_at_once_with_a_sentence_and_code_2(
    words: list[str], token: str | None, sentence: str, home: Path, serve: Callable[..., Ended]
) -> None:
    code, out, err = serve(*words, "--port=0", f"--models={home / 'models'}", token=token)
    assert code == 2, err
    assert err.startswith(sentence)
    assert len(err.splitlines()) == 1
    assert out == ""
    assert TOKEN not in err


def test_a_port_in_use_is_named(home: Path, serve: Callable[..., Ended]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, _, err = serve("--name=tiny", f"--port={port}", f"--models={home / 'models'}")
    assert code == 2
    assert err.startswith(f"error: port {port} of '127.0.0.1' cannot be used (Address already in use)")


def test_no_other_verb_loads_a_web_server(tmp_path: Path) -> None:
    code = (
        "import sys; sys.argv = ['cxr', 'serve', '--help']\n"
        "from cxr.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: print(*({'fastapi', 'uvicorn', 'starlette', 'torch'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert shown.stdout.splitlines()[-1] == ""
    assert "CXR_TOKEN" in shown.stdout
