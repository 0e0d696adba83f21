"""The pages as their readers use them: links, commands, options, and the strict build."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.cli import app
from tests.support.processes import PROJECT
from tests.support.verbs import VERBS

PAGES = [
    *(PROJECT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "deployments/README.md")),
    *sorted(path for path in (PROJECT / "docs").rglob("*.md") if "_build" not in path.parts),
]
FENCE = re.compile(r"^[ \t]*```([\w{}:-]*)\n(.*?)^[ \t]*```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"(?<!`)`([^`]+)`(?!`)")
LINK = re.compile(r"\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^()\s]+(?:\([^()\s]*\))?)\)")
COMMAND = re.compile(r"^[ \t]*(?:[A-Z_]+=\S+ )*(?:\S*/)?(?:python -m )?cxr (?=[a-z])([^|;&#\n]+)", re.MULTILINE)
ALWAYS = {"--help", "--version", "--quiet", "--verbose"}


@pytest.fixture(scope="module")
def options() -> dict[str, list[tuple[str, ...]]]:
    """The names of each option of each verb of `cxr`, as `--help` shows them."""
    shared = app.default_parameter
    collections = {verb: VERBS[verb].assemble_argument_collection(default_parameter=shared) for verb in VERBS}
    return {verb: [argument.names for argument in arguments] for verb, arguments in collections.items()}


def without_code(text: str) -> str:
    return SPAN.sub("`…`", FENCE.sub("", text))


def anchors_of(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and MyST make them."""
    slugs: list[str] = []
    for heading in re.findall(r"^#{1,6} (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        slugs.append(re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-"))
    return {slug + (f"-{slugs[:k].count(slug)}" if slug in slugs[:k] else "") for k, slug in enumerate(slugs)}


def commands_of(page: Path) -> Iterator[list[str]]:
    """Yield the words after `cxr` of each command in a page's blocks and spans of code."""
    text = page.read_text()
    blocks = [block.replace("\\\n", " ") for kind, block in FENCE.findall(text) if kind in ("", "console", "sh")]
    spans = [" ".join(span.split()) for span in SPAN.findall(FENCE.sub("", text))]
    for code in (*blocks, *spans):
        yield from map(shlex.split, COMMAND.findall(code))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(PROJECT).as_posix())
def test_every_relative_link_has_its_target(page: Path) -> None:
    targets = LINK.findall(without_code(page.read_text()))
    for target in targets:
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f"{target}: no such file"
        if anchor:
            assert anchor in anchors_of(file), f"{target}: no such heading"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(PROJECT).as_posix())
def test_every_verb_and_option_exists(page: Path, options: dict[str, list[tuple[str, ...]]]) -> None:
    for words in commands_of(page):
        verb = " ".join(words[:2]) if " ".join(words[:2]) in options else words[0]
        assert verb in options, f"cxr {verb}"
        known = ALWAYS.union(*options[verb])
        flags = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert flags <= known, f"cxr {' '.join(words)}"


def test_every_option_is_on_a_page(options: dict[str, list[tuple[str, ...]]]) -> None:
    text = "\n".join(page.read_text() for page in PAGES)
    mentioned = set(re.findall(r"--[a-z][\w-]*", text))
    every = {(verb, names) for verb, arguments in options.items() for names in arguments if names[0].startswith("--")}
    assert not {(verb, names) for verb, names in every if not mentioned & set(names)}


def test_the_readme_is_short() -> None:
    assert (PROJECT / "README.md").stat().st_size <= 8_000


def test_the_documentation_builds_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "--keep-going"]
    built = subprocess.run(
        [*command, "--doctree-dir", tmp_path / "doctrees", PROJECT / "docs", tmp_path / "html"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    assert (tmp_path / "html" / "reference" / "command-line.html").exists()
