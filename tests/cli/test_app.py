import dataclasses
import inspect
import os
import re
import subprocess
from pathlib import Path

import pytest
from rich.console import Console

from cxr.config import DataConfig, Execution, ScoreConfig, TrainConfig
from cxr.prediction_columns import PredictionColumns
from flows.cli import app
from tests.support.processes import BIN, run_to_the_end
from tests.support.verbs import VERBS


def shown(*words: str) -> str:
    """The help of a verb, as one line without boxes."""
    console = Console(width=400, force_terminal=False)
    with console.capture() as capture:
        app([*words, "--help"], console=console)
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", capture.get()).split())


@pytest.mark.parametrize("verb", VERBS)
def test_every_sentence_of_a_help_text_is_shown_whole(verb: str) -> None:
    text = shown(*verb.split())
    _, _, parameters = (inspect.getdoc(VERBS[verb].default_command) or "").partition("Args:\n")
    joined = " ".join(parameters.replace("`", "").split())
    for sentence in re.findall(r"(?<=: )[^.]*\.", joined):
        assert sentence in text


@pytest.mark.parametrize("config", [DataConfig, TrainConfig, Execution, ScoreConfig, PredictionColumns])
def test_no_help_of_a_field_has_an_angle_bracket_which_markdown_would_drop(config: type) -> None:
    assert dataclasses.is_dataclass(config)
    assert "<" not in (inspect.getdoc(config) or "").partition("Attributes:")[2]


def test_names_to_fill_in_are_shown() -> None:
    assert "comparisons/FIRST_SECOND" in shown("compare")
    assert "cuda:N" in shown("explain")
    assert "cuda:N" in shown("score")


def cxr(*words: str) -> subprocess.CompletedProcess[str]:
    return run_to_the_end([str(BIN / "cxr"), *words], os.environ)


@pytest.mark.parametrize("words", [["sample", "--quiet"], ["--quiet", "sample"]])
def test_a_quiet_command_prints_nothing_wherever_the_option_stands(words: list[str], tmp_path: Path) -> None:
    ended = cxr(*words, str(tmp_path / "images"), "--images=40")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert (tmp_path / "images").is_dir()


def test_a_quiet_command_still_says_what_is_wrong() -> None:
    ended = cxr("evaluate", "nowhere", "--quiet")
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: no run 'nowhere'")


def test_a_verbose_command_shows_where_an_error_comes_from_before_its_sentence(home: Path, tmp_path: Path) -> None:
    ended = cxr("promote", "tiny", "9", f"--models={home / 'models'}", "--verbose")
    assert ended.returncode == 2
    assert "DEBUG cxr.cli.terminal: the error below was raised here\nTraceback" in ended.stderr
    assert ended.stderr.splitlines()[-1].startswith("error: ")


def test_a_command_is_not_quiet_and_verbose_at_once() -> None:
    ended = cxr("runs", "--quiet", "--verbose")
    assert ended.returncode == 2
    assert ended.stderr == "error: --quiet and --verbose cannot be given together: leave one out.\n"


def test_help_groups_verbs_and_the_options_of_train() -> None:
    verbs, train = cxr("--help").stdout, cxr("train", "--help").stdout
    for heading in ("Data", "Training", "Finished runs", "Models", "Scoring", "Services", "Output"):
        assert f"╭─ {heading} ─" in verbs
    assert "─ Commands ─" not in verbs
    groups = re.findall(r"╭─ ([^─]+) ─", train)
    assert groups == [
        "Images and folds",
        "Tables of labels",
        "Recipe",
        "Where it is computed and kept",
        "Data checks",
        "Output",
    ]
    images = train.partition("Images and folds")[2].partition("Tables of labels")[0]
    assert "--folds" in images
    assert "--epochs" not in images


def test_completion_is_installed_for_a_shell_and_completes_verbs_and_options(tmp_path: Path) -> None:
    ended = run_to_the_end(
        [str(BIN / "cxr"), "--install-completion", "--shell=bash"], os.environ | {"HOME": str(tmp_path)}
    )
    assert ended.returncode == 0, ended.stderr
    script = tmp_path / ".local" / "share" / "bash-completion" / "completions" / "cxr"
    assert f"written  {script}" in ended.stdout
    assert str(script) in (tmp_path / ".bashrc").read_text()
    typed = "COMP_WORDS=(cxr runs --ex); COMP_CWORD=2; _cxr; echo ${COMPREPLY[@]}"
    completed = subprocess.run(["bash", "-c", f". {script}; {typed}"], capture_output=True, text=True, check=True)
    assert completed.stdout.split() == ["--experiments"]
