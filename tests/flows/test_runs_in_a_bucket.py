"""Runs that are trained and checked in an object store: a real S3 server (moto's), and processes killed for real."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from cxr.storage import files
from cxr.storage.run_folder import RunFolder
from deployments import services
from tests.support.processes import BIN, PROJECT, run_to_the_end, wait_for
from tests.support.ray import ray_nodes
from tests.support.runs import TABLES, train_command
from tests.support.s3 import relative_files
from tests.support.secrets import assert_no_secret
from tests.support.servers import worker

pytestmark = pytest.mark.faults

PLAIN = (sys.executable, "-m", "cxr")


def assert_same(run: RunFolder, undisturbed: Path) -> None:
    for name in TABLES:
        expected = files.read_table(undisturbed / "experiments/run" / name)
        pd.testing.assert_frame_equal(files.read_table(run.path / name), expected, check_exact=True)


def test_a_run_in_a_bucket_killed_amid_a_fold_resumes_to_the_tables_of_a_folder(
    undisturbed: Path, sample: Path, s3: Any, tmp_path: Path
) -> None:
    run = RunFolder.named(Path("s3://bucket/experiments"), "run")
    command = train_command(sample, tmp_path, PLAIN, "s3://bucket/experiments")
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    wait_for(
        lambda: "fold 0: epoch 2 of 4" in (tmp_path / "log").read_text() or process.poll() is not None, "epoch 2 of 4"
    )
    assert process.poll() is None, (tmp_path / "log").read_text()
    second = run_to_the_end(command, os.environ)
    assert second.returncode == 2
    assert f"error: run run is in use by process {process.pid} on" in second.stderr
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()

    result = run_to_the_end(command, os.environ)
    assert result.returncode == 0, result.stderr
    assert "fold 0: resumed after" in result.stderr or "fold 0: already complete" in result.stderr
    assert "run      s3://bucket/experiments/run\n" in result.stdout
    assert_same(run, undisturbed)
    assert not (tmp_path / "experiments").exists()
    names = {path.name for path in run.path.iterdir()}
    assert names == {path.name for path in (undisturbed / "experiments/run").iterdir()} - {"checks"}


@contextmanager
def runner(name: str, folder: Path, environment: Mapping[str, str]) -> Iterator[list[str]]:
    """What trains folds, with the environment's credentials; yields the words that ask for it."""
    if name == "local":
        yield []
    elif name == "workers":
        services.deploy(environment)
        with worker(services.GPU_POOL, "worker", folder, environment):
            yield ["--runner=workers"]
    else:
        with ray_nodes(folder, 1) as (address, _):
            yield ["--runner=ray", f"--ray-address={address}", "--gpus-per-fold=0"]


@pytest.mark.parametrize("name", ["local", "workers", "ray"])
def test_the_flow_trains_into_a_bucket_with_each_runner_to_the_tables_of_a_folder_and_tells_no_secret(
    name: str,
    undisturbed: Path,
    sample: Path,
    server: dict[str, str],
    s3: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(PROJECT)
    aws = {key: value for key, value in os.environ.items() if key.startswith("AWS")}
    environment = services.PREFECT_DEFAULTS | server | aws
    with runner(name, tmp_path, environment) as words:
        result = run_to_the_end(
            [*train_command(sample, tmp_path, experiments=f"s3://bucket/{name}"), *words], environment
        )
    (tmp_path / "output").write_text(result.stdout + result.stderr)
    assert result.returncode == 0, result.stderr
    run = RunFolder.named(Path(f"s3://bucket/{name}"), "run")
    assert_same(run, undisturbed)
    found = {path.name for path in run.path.iterdir()}
    assert found == {path.name for path in (undisturbed / "experiments/run").iterdir()}
    for key in (entry["Key"] for entry in s3.list_objects_v2(Bucket="bucket", Prefix=f"{name}/")["Contents"]):
        (tmp_path / "objects" / key).parent.mkdir(parents=True, exist_ok=True)
        s3.download_file("bucket", key, str(tmp_path / "objects" / key))
    assert_no_secret(tmp_path)
    assert_no_secret(Path(server["PREFECT_HOME"]))


def test_a_data_set_is_validated_into_a_bucket(
    undisturbed: Path, sample: Path, server: dict[str, str], s3: Any
) -> None:
    aws = {key: value for key, value in os.environ.items() if key.startswith("AWS")}
    words = ["validate", f"--data={sample}", "--experiments=s3://bucket/validated", "--run-id=run", "--folds=2"]
    result = run_to_the_end([str(BIN / "cxr"), *words, f"--cache={undisturbed / 'cache'}"], server | aws)
    assert result.returncode == 0, result.stderr
    checks = RunFolder.named(Path("s3://bucket/validated"), "run").checks
    in_training = undisturbed / "experiments" / "run" / "checks"
    assert relative_files(checks) == relative_files(in_training) - {"predictions.json", "metrics.json"}
    baseline = files.read_table(checks / "acquisition_baseline.parquet")
    pd.testing.assert_frame_equal(baseline, files.read_table(in_training / "acquisition_baseline.parquet"))
