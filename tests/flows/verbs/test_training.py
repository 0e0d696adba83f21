import json
import os
import signal
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from cxr.serving import registry
from tests.support.command import run_here
from tests.support.processes import BIN, run_to_the_end
from tests.support.retraining import Site, copy_site
from tests.support.runs import TABLES

CXR = str(BIN / "cxr")
KILLED = """
import os, signal, sys
def kill(event, args):
    if event == "os.rename" and os.fspath(args[1]).endswith(os.environ["KILLED_BEFORE"]):
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(kill)
"""
"""A sitecustomize.py: the process kills itself when a file is written, before the file gets its name."""


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--positive=COVID"], "error: --positive must name one of the classes 'NORMAL' and 'PNEUMONIA', got 'COVID'."),
        (["--holdout=nowhere"], "error: --holdout 'nowhere' names no split of the data"),
        (["--class-folder=nowhere"], "error: --class-folder 'nowhere' names no folder with images"),
        (["--weights=nowhere.pth", "--trainable=all"], "error: --weights 'nowhere.pth' is not a file"),
        (["--devices=cuda:99"], "error: device 'cuda:99' does not exist"),
        (["--redo-fold=9"], "error: --redo-fold must name a fold from 0 to 4, got 9."),
        (["--runner=workers"], "error: --runner workers needs a Prefect server that workers poll"),
        (["--tolerances=limits.toml"], "error: there is no tolerance 'no_such'"),
    ],
)
def test_what_can_be_known_at_once_is_said_before_a_server_starts(
    words: list[str],
    sentence: str,
    sample: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "limits.toml").write_text("no_such = 1\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    command = ["train", f"--data={sample}", *words]
    if "--weights" not in words[0]:
        command.append("--weights=none")
    code, _, err = run_here(command, capfd)
    assert code == 2
    assert err.startswith(sentence)
    assert len(err.splitlines()) == 1, "neither a server nor a log line"
    assert not list((tmp_path / "prefect").glob("*.db")), "a server makes its database first"
    assert not (tmp_path / "experiments").exists()


def test_a_retraining_that_was_made_before_trains_nothing_and_says_again_what_came_of_it(
    retrained: Site, server: dict[str, str], tmp_path: Path
) -> None:
    site = copy_site(retrained, tmp_path)
    places = [f"--experiments={tmp_path / 'experiments'}", f"--cache={tmp_path / 'cache'}"]
    places += [f"--models={tmp_path / 'models'}", f"--out={tmp_path / 'scores'}"]
    command = [CXR, "retrain", "--name=tiny", "--share=0.5", *places, "--json", "--quiet"]
    result = subprocess.run(command, env=server, capture_output=True, text=True, timeout=200, check=False)
    document = json.loads(result.stdout)
    assert (result.returncode, result.stderr) == (0 if document["promoted"] else 1, "")
    assert document["version"] == "2"
    assert document["retrained"]["sentence"] in document["sentence"]
    assert site.model.versions() == ["1", "2"]
    assert pd.read_parquet(document["files"]["images"])["is_set_aside"].any()


@pytest.mark.faults
def test_a_retraining_that_is_killed_again_and_again_ends_as_one_that_was_not(
    site: Site, retrained: Site, server: dict[str, str], tmp_path: Path
) -> None:
    copy = copy_site(site, tmp_path / "site")
    places = [f"--{name}={copy.path / name}" for name in ("experiments", "cache", "models")]
    command = [CXR, "retrain", "--name=tiny", "--share=0.5", "--devices=cpu", f"--out={copy.scores.path}", *places]
    (tmp_path / "sitecustomize.py").write_text(KILLED)
    searched = [str(tmp_path), *filter(None, [server.get("PYTHONPATH")])]
    killing = server | {"PYTHONPATH": os.pathsep.join(searched)}
    for file in ("data_set.parquet", "package.json", "outcome.json"):
        killed = run_to_the_end(command, killing | {"KILLED_BEFORE": file})
        assert killed.returncode == -signal.SIGKILL, (file, killed.stderr)
    ended = run_to_the_end(command, server)
    (undisturbed,) = (retrained.path / "experiments").glob("retrain-*")
    run = copy.path / "experiments" / undisturbed.name
    for table in (*TABLES, "retraining/data_set.parquet", "retraining/set_aside.parquet"):
        pd.testing.assert_frame_equal(pd.read_parquet(run / table), pd.read_parquet(undisturbed / table))
    outcome = json.loads((run / "retraining" / "outcome.json").read_text())
    assert outcome == json.loads((undisturbed / "retraining" / "outcome.json").read_text())
    assert ended.returncode == (0 if outcome["promoted"] else 1)
    assert copy.model.versions() == ["1", "2"]
    assert registry.champion_version(copy.model) == registry.champion_version(retrained.model)
    left = [file for file in copy.path.rglob(".*") if file.suffix == ".tmp" or "making" in file.name]
    assert left == []
