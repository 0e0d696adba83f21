import subprocess
import sys
from pathlib import Path

import pytest

from cxr.cli.app import app
from cxr.cli.runs import locked_run
from cxr.descriptions import shipped
from cxr.errors import RunError
from cxr.storage.run_folder import RunFolder


@pytest.mark.parametrize(
    "words",
    [
        ["train-fold", "nowhere", "0"],
        ["evaluate", "nowhere"],
        ["report", "nowhere"],
        ["stress", "nowhere"],
        ["learning-curve", "nowhere"],
        ["compare", "nowhere", "neither"],
        ["package", "nowhere", "--name", "tiny"],
    ],
)
def test_a_misspelt_run_is_answered_before_torch_is_loaded(words: list[str], tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from cxr.cli.main import app\n"
        "from cxr.errors import RunError\n"
        "try: app(sys.argv[1:])\n"
        "except RunError as error: print(error)\n"
        "print('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, *words]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=120)
    sentence, has_torch = result.stdout.splitlines()
    assert sentence.startswith("no run 'nowhere' in ")
    assert has_torch == "False"


def test_runs_are_listed_with_their_metrics(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    app(["runs", f"--experiments={home / 'experiments'}"])
    printed = capsys.readouterr().out
    assert "2 of 2" in printed
    assert "roc_auc" in printed


def test_two_commands_do_not_hold_one_run(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = RunFolder.existing("run", home / "experiments")
    with locked_run(folder) as run:
        assert run.config.folds == 2
        with pytest.raises(RunError, match="run run is in use by process"):
            app(["evaluate", "run", f"--experiments={home / 'experiments'}"])


def test_the_known_collections_are_listed_with_their_options(capsys: pytest.CaptureFixture[str]) -> None:
    app(["sets"])
    printed = capsys.readouterr().out
    for description in shipped():
        assert f"{description.name:<12} {description.title}" in printed
    assert "--patient-column 'Patient ID'" in printed
    assert "--value 'Finding Labels:No Finding=absent'" in printed
