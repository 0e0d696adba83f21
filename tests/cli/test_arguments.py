"""Every option of every verb with values that make no sense, through the real entry point."""

import os
import types
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from cyclopts import Argument

from cxr.cli import terminal
from cxr.cli.arguments import ADDRESSES, FILES, FOLDERS, HAS_TO_EXIST, MAY_BE_EMPTY, NAMES
from flows.cli import app
from tests.support.verbs import VERBS

NEEDED = {
    "FILE": "README.md",
    "RUN": "run",
    "FOLD": "0",
    "OUT": "made",
    "INBOX": "folder",
    "NAME": "tiny",
    "VERSION": "1",
    "BATCH": "ward",
    "FIRST": "first",
    "SECOND": "second",
    "IMAGES": "image.png",
    "MODEL": "tiny",
    "DESTINATION": "folder",
    "SOURCE": "folder",
    "--name": "tiny",
    "--data": "folder",
    "--labels": "README.md",
}
TEXTS = ("", "  ", "a\0b", "\udcff")
PATHS = (*TEXTS, "x" * 300, "long/" * 1000)
NO_FOLDERS = (
    *PATHS,
    "README.md",
    "README.md/x",
    "loop/x",
    "s3://",
    "s3:///",
    "gs://bucket/runs",
    "http://evil.example/x",
)
NO_FILES = (*PATHS, "nowhere.toml", "folder", "README.md/x")
NO_ADDRESSES = ("a\0b", "nowhere", "sqlite:///", "http://", "ftp://host", "README.md")
NO_NUMBERS = ("", "nan", "-1", "abc", "1e400", "1,5")


@cache
def collected(verb: str) -> list[Argument]:
    return [
        argument for argument in VERBS[verb].assemble_argument_collection() if argument.name != "*" and argument.parse
    ]


def types_of(argument: Argument) -> set[Any]:
    """The plain types that an option takes, out of `int | None`, `tuple[Path, ...]` and the like."""
    found, pending = set(), [argument.hint]
    while pending:
        hint = pending.pop()
        if get_origin(hint) in (tuple, types.UnionType) or "Union" in str(get_origin(hint)):
            pending.extend(get_args(hint))
        else:
            found.add(get_origin(hint) or hint)
    return found


def nonsense(argument: Argument) -> tuple[str, ...]:
    if argument.name in FOLDERS:
        return NO_FOLDERS
    if argument.name in FILES:
        return NO_FILES
    if argument.name in NAMES and not types_of(argument) & {int, float}:
        return PATHS
    if argument.name in ADDRESSES:
        return NO_ADDRESSES
    if types_of(argument) & {int, float}:
        return NO_NUMBERS
    return () if bool in types_of(argument) else TEXTS


def cases() -> Iterator[tuple[str, str]]:
    for verb in VERBS:
        yield from ((verb, argument.name) for argument in collected(verb) if nonsense(argument))


def words_of(verb: str, name: str, value: str) -> list[str]:
    """A command line in which one value makes no sense, and what else is needed is there."""
    words = verb.split()
    for argument in collected(verb):
        if argument.name == name:
            words.append(f"{name}={value}" if name.startswith("--") else value)
        elif argument.required or argument.name in ("INBOX", "--name", "--data"):
            needed = NEEDED[argument.name]
            words.append(f"{argument.name}={needed}" if argument.name.startswith("--") else needed)
    return words


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a file, a folder and a link to itself."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")
    (tmp_path / "README.md").write_text("a file")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    return tmp_path


def ended(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[object, str]:
    with pytest.raises(SystemExit) as end:
        terminal.run_command(partial(app, words))
    printed = capsys.readouterr()
    return end.value.code, printed.out + printed.err


@pytest.mark.parametrize(("verb", "name"), list(cases()))
def test_nonsense_ends_with_code_2_and_a_sentence_that_names_the_option(
    verb: str, name: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (argument,) = [argument for argument in collected(verb) if argument.name == name]
    for value in nonsense(argument):
        if value.startswith("-") and not name.startswith("--"):
            continue  # it is taken for an option
        code, printed = ended(words_of(verb, name, value), capsys)
        assert code == 2, (value, printed)
        assert name in printed, (value, printed)
        assert "Traceback" not in printed
        if printed.startswith("error: "):
            assert len(printed.splitlines()) == 1
            assert len(printed) < 400
    assert sorted(path.name for path in place.rglob("*")) == ["README.md", "folder", "loop"], "nothing is written"


def test_every_option_that_is_a_path_is_looked_at() -> None:
    paths = {argument.name for verb in VERBS for argument in collected(verb) if Path in types_of(argument)}
    assert paths <= FOLDERS | FILES | NAMES
    assert {"--experiments", "--out", "INBOX", "--tolerances", "IMAGES"} <= paths


def test_a_literal_is_no_type_to_convert_to() -> None:
    (point,) = [argument for argument in collected("package") if argument.name == "--operating-point"]
    assert types_of(point) == {Literal}


@pytest.mark.parametrize(
    ("verb", "name"), [(verb, name) for name in ("--experiments", "--models") for verb in sorted(HAS_TO_EXIST[name])]
)
def test_a_folder_that_a_verb_reads_has_to_exist(
    verb: str, name: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, printed = ended(words_of(verb, name, "nowhere"), capsys)
    sentence = f"error: {name} 'nowhere' does not exist: give a folder that does, or leave it out.\n"
    assert (code, printed) == (2, sentence)


@pytest.mark.parametrize(("verb", "name"), [("runs", "--experiments"), ("models", "--models")])
def test_a_mistyped_folder_is_no_empty_list_but_a_fresh_project_is(
    verb: str, name: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, printed = ended([verb, f"{name}=nowhere"], capsys)
    assert (code, printed) == (
        2,
        f"error: {name} 'nowhere' does not exist: give a folder that does, or leave it out.\n",
    )
    code, printed = ended([verb], capsys)
    assert code == 0
    assert "yet: `cxr" in printed


def test_images_are_a_folder_for_recalibrate_and_a_number_elsewhere(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["recalibrate", "tiny", "--labels=README.md"]
    code, printed = ended([*words, "--images=nowhere"], capsys)
    assert (code, "error: --images 'nowhere' does not exist" in printed) == (2, True), printed
    (place / "0").mkdir()
    code, printed = ended([*words, "--images=0"], capsys)
    assert (code, "there is no model 'tiny'" in printed or "has no champion" in printed) == (2, True), printed
    assert "--images must lie between" in ended(["sample", "made", "--images=0"], capsys)[1]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder")
def test_a_folder_that_is_closed_to_this_user_is_named(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "folder").chmod(0)
    code, printed = ended(["runs", "--experiments=folder"], capsys)
    (place / "folder").chmod(0o755)
    assert code == 2
    assert "--experiments 'folder' cannot be read" in printed


def test_an_empty_webhook_is_none(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {"--notify"} == MAY_BE_EMPTY
    monkeypatch.setenv("CXR_NOTIFY", "")
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    code, printed = ended(["deploy"], capsys)
    assert code == 2
    assert printed.startswith("error: PREFECT_API_URL names no Prefect server")


OF_TRAINING = {"--split-column", "--split-list", "--split-pattern", "--weight-column", "--subgroup-column"}


@pytest.mark.parametrize(
    "verb", [verb for verb in VERBS if "--label-column" in {argument.name for argument in collected(verb)}]
)
def test_what_only_a_training_asks_of_label_tables_is_offered_by_no_other_verb(verb: str) -> None:
    names = {argument.name for argument in collected(verb)}
    if verb in ("train", "validate"):
        assert OF_TRAINING | {"--missing-films"} <= names
    elif verb != "appraise":  # it has columns of its own
        assert not OF_TRAINING & names
        assert ("--missing-films" in names) == (verb != "feedback")


def test_an_option_that_means_nothing_to_a_verb_is_refused_by_name(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (["feedback", "README.md", "--name=tiny"], ["recalibrate", "tiny"], ["report", "run"]):
        for name in OF_TRAINING:
            code, printed = ended([*words, f"{name}=a"], capsys)
            assert (code, f"Unknown option: {name}" in printed) == (2, True), printed


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["promote", "tiny", "1", "--force"], "error: there is no model 'tiny'"),
        (["package", "run", "--name=tiny", "--promote", "--no-int8"], "error: no run 'run'"),
        (["train-fold", "run", "0", "--supervised"], "error: no run 'run'"),
    ],
)
def test_a_flag_needs_no_value(
    words: list[str], sentence: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, printed = ended(words, capsys)
    assert code == 2
    assert printed.startswith(sentence)
