"""Secrets never reach a disk, and data never runs as code."""

import ast
import subprocess
import sys
from pathlib import Path

import torch

from tests.support.processes import PROJECT
from tests.support.secrets import SECRET, assert_no_secret

ROOMS = ("app", "benchmarks", "cxr", "data_checks", "flows", "tasks", "tests")


def test_no_secret_of_the_environment_reaches_a_file_the_output_or_prefect(
    undisturbed: Path,
) -> None:
    assert (undisturbed / "stdout").exists()
    assert (undisturbed / "prefect" / "prefect.db").exists()  # holds parameters, logs and artifacts
    assert_no_secret(undisturbed)


def test_every_file_of_weights_or_state_is_read_as_tensors_alone() -> None:
    sources = [file for room in ROOMS for file in (PROJECT / room).glob("**/*.py")]
    calls = [
        (file.relative_to(PROJECT), node.lineno, {word.arg: ast.unparse(word.value) for word in node.keywords})
        for file in sources
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load"
    ]
    assert len(calls) >= 4
    assert [(file, line) for file, line, words in calls if words.get("weights_only") != "True"] == []


class RunsCode:
    """An object in a hostile weights file: reading it as a pickle writes a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, (f"from pathlib import Path; Path({str(self.file)!r}).write_text({SECRET!r})",)


def test_weights_that_would_run_code_are_refused_in_one_sentence(sample: Path, tmp_path: Path) -> None:
    evil = tmp_path / "evil.pth"
    torch.save({"conv1.weight": RunsCode(tmp_path / "was run")}, evil)
    words = ["train", f"--data={sample}", f"--weights={evil}", "--size=32", "--devices=cpu", "--run-id=run"]
    result = subprocess.run(
        [sys.executable, "-m", "cxr", *words], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 2, result.stderr
    assert f"error: weights file {evil} contains more than tensors, and loading it would run code" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "was run").exists()
    assert not (tmp_path / "experiments" / "run").exists()
