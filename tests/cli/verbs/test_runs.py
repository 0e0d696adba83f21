import subprocess
import sys
from pathlib import Path

import pytest

from cxr.cli.main import app


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
