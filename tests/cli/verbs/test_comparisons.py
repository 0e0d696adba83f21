from pathlib import Path

import pytest

from cxr.cli.main import app
from cxr.errors import ConfigError, RunError
from cxr.storage.appraisal_folder import AppraisalFolder


def test_a_run_is_not_compared_with_itself(home: Path) -> None:
    with pytest.raises(RunError, match="two or more different runs"):
        app(["compare", "run", "run", f"--experiments={home / 'experiments'}"])


def test_a_name_that_a_run_and_an_appraisal_have_is_asked_about(home: Path, tmp_path: Path) -> None:
    appraisal = AppraisalFolder.named(tmp_path / "appraisals", "run")
    appraisal.path.mkdir(parents=True)
    appraisal.record.touch()
    places = [f"--experiments={home / 'experiments'}", f"--appraisals={tmp_path / 'appraisals'}"]
    with pytest.raises(ConfigError, match="'run' is a run and an appraisal: give the path of its folder"):
        app(["compare", "run", "another", *places])
