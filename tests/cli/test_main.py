import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import BIN, PROJECT, somebody_elses_packages

STORIES = {"validate", "score", "up", "down", "status", "deploy", "app", "demo"}


def python(code: str, cwd: Path) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, check=True, timeout=120
    ).stdout


@pytest.mark.parametrize(("function", "has_stories"), [("main", True), ("run_core", False)])
def test_a_checkout_has_all_verbs_and_the_core_its_own(function: str, has_stories: bool, tmp_path: Path) -> None:
    code = (
        "import sys; sys.argv = ['cxr', '--version']\n"
        f"from cxr.cli.main import app, {function}\n"
        f"try: {function}()\n"
        "except SystemExit as ended: assert ended.code == 0\n"
        "print(*app)"
    )
    _, verbs = python(code, tmp_path).splitlines()
    assert {"train", "train-fold", "runs", "compare", "package"} <= set(verbs.split())
    assert (set(verbs.split()) >= STORIES) is has_stories
    assert bool(STORIES & set(verbs.split())) is has_stories


def test_a_checkout_goes_first_on_the_path(tmp_path: Path) -> None:
    code = (
        "import sys; sys.argv = ['cxr', '--version']\n"
        "from cxr.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: print(sys.path[0])"
    )
    assert python(code, tmp_path).splitlines()[-1] == str(PROJECT)


def test_help_loads_neither_torch_nor_prefect(tmp_path: Path) -> None:
    code = (
        "import sys; sys.argv = ['cxr', '--help']\n"
        "from cxr.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: print(*({'torch', 'prefect', 'great_expectations'} & set(sys.modules)))"
    )
    assert python(code, tmp_path).splitlines()[-1] == ""


@pytest.mark.parametrize(
    ("words", "code", "printed"),
    [
        ([str(BIN / "cxr"), "status"], 0, "server          down"),
        ([str(BIN / "cxr"), "train", "--data", "nowhere"], 2, "--data 'nowhere' does not exist"),
        ([str(BIN / "cxr"), "score", "nowhere", "--name", "tiny"], 2, "has no champion"),
        ([sys.executable, "-P", "-m", "cxr", "train-fold", "nowhere", "0"], 2, "no run 'nowhere'"),
    ],
    ids=["services", "flows", "checks", "a fold's child"],
)
def test_somebody_elses_packages_on_the_path_do_no_harm(
    words: list[str], code: int, printed: str, tmp_path: Path
) -> None:
    environment = os.environ | {"PYTHONPATH": somebody_elses_packages(tmp_path)}
    ended = subprocess.run(
        words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert ended.returncode == code, ended.stderr
    assert printed in ended.stdout + ended.stderr
    assert "somebody else" not in ended.stderr
