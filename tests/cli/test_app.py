import dataclasses
import inspect
import re
from pathlib import Path

import pytest
from rich.console import Console

from cxr.cli.main import app as core
from cxr.config import DataConfig, Execution, ScoreConfig, TrainConfig
from cxr.errors import ConfigError
from flows.cli import app


def verbs() -> list[str]:
    return [name for name in app if not name.startswith("-")]


def shown(*words: str) -> str:
    """The help of a verb, as one line without boxes."""
    console = Console(width=400, force_terminal=False)
    with console.capture() as capture:
        app([*words, "--help"], console=console)
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", capture.get()).split())


@pytest.mark.parametrize("verb", verbs())
def test_every_sentence_of_a_help_text_is_shown_whole(verb: str) -> None:
    text = shown(verb)
    _, _, parameters = (inspect.getdoc(app[verb].default_command) or "").partition("Args:\n")
    joined = " ".join(parameters.replace("`", "").split())
    for sentence in re.findall(r"(?<=: )[^.]*\.", joined):
        assert sentence in text


@pytest.mark.parametrize("config", [DataConfig, TrainConfig, Execution, ScoreConfig])
def test_no_help_of_a_field_has_an_angle_bracket_which_markdown_would_drop(config: type) -> None:
    assert dataclasses.is_dataclass(config)
    assert "<" not in (inspect.getdoc(config) or "").partition("Attributes:")[2]


def test_names_to_fill_in_are_shown() -> None:
    assert "comparisons/FIRST_SECOND" in shown("compare")
    assert "cuda:N" in shown("explain")
    assert "cuda:N" in shown("score")


def test_sample_takes_the_old_name_of_its_option_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    core(["sample", str(tmp_path / "images"), "--films", "40"])
    assert capsys.readouterr().out == f"40 synthetic images in {tmp_path / 'images'}\n"
    with pytest.raises(ConfigError, match="empty"):
        core(["sample", str(tmp_path / "images")])
