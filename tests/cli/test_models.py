from pathlib import Path

import pytest

from cxr.cli.app import app
from cxr.errors import ConfigError, PackageError, RunError


def test_models_are_listed_with_their_champion(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    app(["models", f"--models={home / 'models'}"])
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "tiny" in line]
    assert line.replace("│", " ").split()[:4] == ["tiny", "1", "yes", "run"]


def test_promoting_the_champion_again_says_so(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    app(["promote", "tiny", "1", f"--models={home / 'models'}"])
    assert "already champion" in capsys.readouterr().out


def test_mistakes_are_errors_of_the_users(home: Path, tmp_path: Path) -> None:
    models = f"--models={home / 'models'}"
    with pytest.raises(PackageError, match="no champion before"):
        app(["rollback", "tiny", models])
    with pytest.raises(PackageError, match="has no version '9'"):
        app(["promote", "tiny", "9", models])
    with pytest.raises(ConfigError, match="name one or more images"):
        app(["explain", "--name", "tiny", models])
    with pytest.raises(RunError, match=r"no rows of batch .batch. are held"):
        app(["release", "batch", f"--out={tmp_path / 'scores'}"])
