from pathlib import Path

import pytest

from cxr.cli.main import app
from cxr.cli.verbs.runs import locked_run
from cxr.errors import RunError
from cxr.storage.run_folder import RunFolder


def test_two_commands_do_not_hold_one_run(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = RunFolder.existing("run", home / "experiments")
    with locked_run(folder) as run:
        assert run.config.folds == 2
        with pytest.raises(RunError, match="run run is in use by process"):
            app(["evaluate", "run", f"--experiments={home / 'experiments'}"])
