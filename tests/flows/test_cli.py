import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from cxr.config import DataConfig, Execution, RunLocation, TrainConfig
from data_checks.tolerances import Checking
from tests.support.command import run_here

CXR = str(Path(sys.executable).with_name("cxr"))


def cxr(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([CXR, *words], cwd=cwd, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize("verb", ["validate", "train", "train-fold", "evaluate", "sample", "demo", "app"])
def test_every_verb_has_help_with_an_example(verb: str, tmp_path: Path) -> None:
    result = cxr(verb, "--help", cwd=tmp_path)
    assert result.returncode == 0
    assert f"Example: cxr {verb}" in result.stdout


@pytest.mark.parametrize(
    ("verb", "classes"),
    [("train", (TrainConfig, Execution, Checking)), ("validate", (DataConfig, RunLocation, Checking))],
)
def test_the_command_has_a_flag_for_each_parameter_of_its_flow(verb: str, classes: tuple, tmp_path: Path) -> None:
    help_text = cxr(verb, "--help", cwd=tmp_path).stdout
    names = [field.name for record in classes for field in fields(record)]
    assert all(f"--{name.replace('_', '-')}" in help_text for name in names)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["train"], 'parameter "--data" requires an argument'),
        (["train", "--data", "x", "--size", "7"], "error: --size must lie between 32 and 1024, got 7."),
        (["train", "--data", "x", "--colour", "red"], "Unknown option"),
        (
            ["train", "--data", "nowhere"],
            "error: --data 'nowhere' does not exist: give a folder, a .zip, .tar or .tar.gz, or the word kaggle.",
        ),
        (["train-fold", "nowhere", "0"], "error: no run 'nowhere' in /"),
        (["evaluate", "nowhere"], "error: no run 'nowhere' in /"),
        (["validate", "--data", "nowhere"], "error: --data 'nowhere' does not exist"),
        (["validate", "--data", "x", "--folds", "1"], "error: --folds must lie between 2 and 20, got 1."),
        (["app", "--port", "70000"], "error: --port must lie between 0 and 65535, got 70000."),
        (["sample", "images", "--images", "3"], "error: --images must be 40 or more, got 3."),
    ],
)
def test_a_mistake_ends_with_a_sentence_and_code_2(
    words: list[str],
    sentence: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run_here(words, capfd)
    assert code == 2
    assert sentence.replace('"', "") in " ".join((out + err).replace('"', "").split())
    assert "Traceback" not in err
    assert not list(tmp_path.iterdir())


def test_a_full_disk_that_takes_no_output_ends_with_a_sentence_and_code_2(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            [CXR, "models"], cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False
        )
    assert result.returncode == 2
    assert result.stderr.startswith("error: no space is left on the disk (")
    assert "Traceback" not in result.stderr


def test_the_core_runs_without_prefect(tmp_path: Path) -> None:
    words = ["sample", "images", "--images", "40"]
    code = f"import sys; sys.modules['prefect'] = None; from cxr.cli.main import app; app({words})"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=120)
    assert len(list((tmp_path / "images").rglob("*.jpeg"))) == 40


def test_help_waits_for_no_library_of_tables_networks_or_flows() -> None:
    code = (
        "import atexit, sys\n"
        "heavy = ('pandas', 'torch', 'sklearn', 'prefect', 'great_expectations', 'matplotlib')\n"
        "atexit.register(lambda: print('imported:', [name for name in heavy if name in sys.modules]))\n"
        "from cxr.cli.main import main\n"
        "sys.argv = ['cxr', '--help']\n"
        "main()\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert "Usage: cxr" in ended.stdout
    assert ended.stdout.endswith("imported: []\n")
