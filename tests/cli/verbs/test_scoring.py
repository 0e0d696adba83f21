from pathlib import Path

import pytest

from cxr.cli.main import app
from cxr.errors import ConfigError, RunError


def test_an_explanation_needs_an_image(home: Path) -> None:
    with pytest.raises(ConfigError, match="name one or more images"):
        app(["explain", "--name", "tiny", f"--models={home / 'models'}"])


def test_a_batch_that_is_not_held_cannot_be_released(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no rows of batch .batch. are held"):
        app(["release", "batch", f"--out={tmp_path / 'scores'}"])
    assert not (tmp_path / "scores").exists()
