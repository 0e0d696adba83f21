"""An object store, a real S3 server (moto's): its locks and uploads, and the verbs that read a run in it."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from app.server import Folders
from cxr.classes import Classes
from cxr.cli.app import app as core
from cxr.config import TrainConfig
from cxr.errors import ConfigError, CxrError, RunError
from cxr.serving.registry import load_champion
from cxr.storage import files, object_store
from cxr.storage.run_folder import RunFolder
from cxr.training.run import Run
from tests.app.support import opened, texts
from tests.support.processes import lock_holder, wait_for
from tests.support.s3 import relative_files

pytestmark = pytest.mark.faults


def place(name: str) -> Path:
    return files.located(Path("s3://bucket") / name)


def started(code: str, *words: str) -> subprocess.Popen[str]:
    """Another process that has imported what the code needs."""
    lines = f"import sys\nfrom pathlib import Path\nfrom cxr.storage import files\nfrom cxr.errors import *\n{code}"
    return subprocess.Popen(
        [sys.executable, "-c", lines, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_a_large_object_is_read_in_one_request_so_that_no_two_versions_mix(s3: Any, s3_log: Path) -> None:
    data = bytes(range(256)) * (60 * 2**12)  # 60 MiB
    s3.put_object(Bucket="bucket", Key="large", Body=data)
    assert files.read_bytes(place("large")) == data
    requests = [line for line in s3_log.read_text().splitlines() if "/bucket/large " in line]
    assert [line.partition('"')[2].partition(" ")[0] for line in requests] == ["PUT", "GET"]


def test_exactly_one_of_several_processes_gets_a_lock_and_the_others_learn_who_holds_it(s3: Any) -> None:
    code = """
path = files.located(Path("s3://bucket/lock"))
print("ready", flush=True)
input()
try:
    with files.locked(path, "run x"):
        print("got it", flush=True)
        input()
except RunError as error:
    print(error, flush=True)
"""
    rivals = [started(code) for _ in range(3)]
    for rival in rivals:
        assert rival.stdout is not None
        assert rival.stdout.readline() == "ready\n"
    for rival in rivals:
        assert rival.stdin is not None
        rival.stdin.write("\n")
        rival.stdin.flush()
    lines = [rival.stdout.readline() for rival in rivals if rival.stdout]
    assert lines.count("got it\n") == 1
    winner = rivals[lines.index("got it\n")]
    assert sum(line.startswith(f"run x is in use by process {winner.pid} on") for line in lines) == 2
    for rival in rivals:
        rival.communicate("\n")
    assert not place("lock").exists(), "the winner has released it"


def test_a_halted_holders_lock_lapses_and_what_it_writes_afterwards_is_refused(s3: Any) -> None:
    code = """
path = files.located(Path("s3://bucket/halted"))
try:
    with files.locked(path / "lock", "run x"):
        files.write_json(path / "facts.json", {"of": "the first"})
        print("wrote", flush=True)
        input()
        files.write_json(path / "facts.json", {"of": "the first, too late"})
except RunError as error:
    print(error, flush=True)
"""
    first = started(code)
    assert first.stdout is not None
    assert first.stdout.readline() == "wrote\n"
    with lock_holder(place("killed"), "run y") as killed:
        killed.kill()
    halted_at = time.monotonic()
    os.kill(first.pid, signal.SIGSTOP)
    facts = place("halted") / "facts.json"
    with files.locked(facts.with_name("lock"), "run x"):
        assert time.monotonic() - halted_at > object_store.LEASE_S - object_store.RENEWED_EVERY_S - 1
        files.write_json(facts, {"of": "the second"})
        os.kill(first.pid, signal.SIGCONT)
        output, _ = first.communicate("\n")
        assert "was taken over by another process" in output
        with files.locked(place("killed"), "run y"):
            assert time.monotonic() - halted_at < object_store.LEASE_S + 8
        with pytest.raises(RunError, match=f"run x is in use by process {os.getpid()} on"):
            try_to_lock(facts.with_name("lock"))
    assert files.read_json(facts) == {"of": "the second"}


def try_to_lock(lock: Path) -> None:
    with files.locked(lock, "run x"):
        pytest.fail("two hold the lock")


def test_lines_of_several_processes_are_all_kept(s3: Any) -> None:
    code = """
for k in range(10):
    files.append_line(files.located(Path("s3://bucket/lines.jsonl")), f"{sys.argv[1]} {k}")
"""
    writers = [started(code, str(number)) for number in range(3)]
    for writer in writers:
        writer.communicate()
    lines = place("lines.jsonl").read_text().splitlines()
    assert sorted(lines) == sorted(f"{number} {k}" for number in range(3) for k in range(10))


def test_a_killed_upload_shows_nothing_and_is_discarded(s3: Any) -> None:
    folder = place("upload")
    files.write_text(folder / "weights", "the old ones")
    code = """
with files.replacing(files.located(Path("s3://bucket/upload/weights"))) as temporary:
    temporary.write_bytes(bytes(400 * 2**20))
"""
    writer = started(code)
    parts = lambda: s3.list_multipart_uploads(Bucket="bucket").get("Uploads", [])  # noqa: E731
    wait_for(parts, "the upload to begin", timeout_s=60)
    writer.kill()
    writer.communicate()
    assert (folder / "weights").read_text() == "the old ones"
    assert len(parts()) == 1
    files.sweep(folder)
    assert not parts()
    assert [path.name for path in folder.iterdir()] == ["weights"]


def test_a_fold_in_a_bucket_is_forgotten_with_the_tables_made_from_it(s3: Any, tmp_path: Path) -> None:
    run = RunFolder.named(Path("s3://bucket/forgetful"), "run")
    kept, fold = run.fold(1).complete, run.fold(0)
    for file in (kept, fold.complete, fold.checkpoint, run.report, run.figures / "roc.svg", run.metrics):
        files.write_text(file, "{}")
    config = TrainConfig(data="images")
    Run(run, config, {}, Classes("AB"), tmp_path, devices=["cpu"], n_threads=[1], compile="off").forget_fold(0)
    assert s3.list_objects_v2(Bucket="bucket", Prefix="forgetful/run/")["Contents"][0]["Key"].endswith(
        "folds/fold=1/complete.json"
    )
    assert s3.list_objects_v2(Bucket="bucket", Prefix="forgetful/run/")["KeyCount"] == 1


@pytest.fixture(scope="module")
def copied(undisturbed: Path, s3: Any) -> RunFolder:
    """The undisturbed run, copied into the bucket, twice."""
    folder = undisturbed / "experiments" / "run"
    for file in (path for path in folder.rglob("*") if path.is_file()):
        for name in ("run", "other"):
            s3.upload_file(str(file), "bucket", f"copied/{name}/{file.relative_to(folder)}")
    return RunFolder.named(Path("s3://bucket/copied"), "run")


def test_commands_that_read_a_run_read_it_in_a_bucket(
    copied: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = "--experiments=s3://bucket/copied"
    core(["runs", there])
    assert capsys.readouterr().out.count("2 of 2") == 2
    core(["package", "run", "--name=tiny", f"--models={tmp_path / 'models'}", "--promote", there])
    load_champion(tmp_path / "models", "tiny")
    core(["mlflow", str(copied.path), f"--store=sqlite:///{tmp_path / 'mlflow.db'}"])
    assert list((tmp_path / "mlartifacts").rglob("report.html"))


def test_analyses_of_a_run_write_the_same_files_into_a_bucket_as_into_a_folder(
    copied: RunFolder, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    core(["sample", "outside", "--images=40", "--seed=9"])
    local = tmp_path / "experiments"
    for name in ("run", "other"):
        shutil.copytree(undisturbed / "experiments" / "run", local / name)
    for place, there in (("here", f"--experiments={local}"), ("there", "--experiments=s3://bucket/copied")):
        core(["stress", "run", "--images=10", "--device=cpu", there])
        core(["learning-curve", "run", "--share=0.5", "--device=cpu", there])
        core(["report", "run", "--external=outside", there])
        core(["compare", "run", "other", f"--out={place}", there])
    names, objects = relative_files(local), relative_files(copied.path.parent)
    assert objects == names
    for file in (file for file in names if file.endswith(".parquet") and "epochs" not in file):  # those have seconds
        in_bucket = files.read_table(copied.path.parent / file)
        pd.testing.assert_frame_equal(files.read_table(local / file), in_bucket, obj=file)
    for file in (tmp_path / "here").iterdir():
        pd.testing.assert_frame_equal(files.read_table(file), files.read_table(tmp_path / "there" / file.name))


def test_the_page_shows_a_run_in_a_bucket(copied: RunFolder, tmp_path: Path) -> None:
    places = Folders(Path("s3://bucket/copied"), *(tmp_path / name for name in ("models", "scores", "cache")))
    view = opened("runs", Folders.from_arguments(places.as_arguments()))
    assert "Confusion matrix" in texts(view)
    view.pills[0].set_value("Curves").run()
    assert not view.exception
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["runs", "--experiments=s3://nowhere"], "the bucket 'nowhere' cannot be reached"),
        (["evaluate", "missing", "--experiments=s3://bucket/x"], "no run 'missing' in s3://bucket/x: give a run id"),
        (["models", "--models=s3://bucket/models"], "--models needs a folder of files, got 's3://bucket/models'"),
        (["rollback", "tiny", "--models=s3://bucket/models"], "--models needs a folder of files"),
        (["release", "batch", "--out=s3://bucket/scores"], "--out needs a folder of files"),
        (
            [
                "train",
                "--data=.",
                "--weights=none",
                "--trainable=all",
                "--experiments=s3://bucket/x",
                "--cache=s3://bucket/cache",
            ],
            "--cache needs a folder of files",
        ),
        (
            ["report", "run", "--experiments=s3://bucket/copied", "--external=s3://bucket/images"],
            "--external needs a folder",
        ),
    ],
)
@pytest.mark.usefixtures("copied")
def test_everything_but_runs_is_refused_in_a_bucket(
    words: list[str], sentence: str, s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CxrError, match=re.escape(sentence)):
        core(words)
    assert not list(tmp_path.iterdir())


def test_without_s3fs_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(ConfigError, match=r"extra \[s3\]"):
        files.located(Path("s3://another/experiments"))
