"""The `cxr` command in the tests' own process, which has imported what a process of its own takes seconds for."""

from functools import partial

import pytest

from cxr.cli.terminal import run_command
from flows.cli import app

Ended = tuple[object, str, str]
"""Exit code, standard output and standard error."""


def run_here(words: list[str], captured: pytest.CaptureFixture[str]) -> Ended:
    """Run `cxr` with these words to its end, as `main` does."""
    with pytest.raises(SystemExit) as end:
        run_command(partial(app.meta, words))
    out, err = captured.readouterr()
    return end.value.code, out, err
