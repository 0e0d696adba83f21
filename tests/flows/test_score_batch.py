"""The nightly flow on a real server with a real worker, started by its schedule alone."""

import json
import os
import re
import shutil
import signal
import subprocess
import urllib.request
from pathlib import Path

import pandas as pd
import pytest
import yaml

from cxr.images.synthetic import draw_inbox
from cxr.storage.model_folder import ModelFolder
from flows.score_batch import _is_without_champion
from tests.support.dicom import draw_study, find_instances
from tests.support.images import draw_negatives
from tests.support.processes import BIN, PROJECT, wait_for
from tests.support.servers import quick_deployment


def prefect(server: dict[str, str], *words: object) -> str:
    command = [str(word) for word in (BIN / "prefect", "--no-prompt", *words)]
    result = subprocess.run(command, cwd=PROJECT, env=server, capture_output=True, text=True, timeout=200, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def flow_runs(server: dict[str, str]) -> list[dict]:
    request = urllib.request.Request(  # noqa: S310 loopback
        server["PREFECT_API_URL"] + "/flow_runs/filter",
        data=json.dumps({"flows": {"name": {"any_": ["score-batch"]}}}).encode(),
        headers={"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310 loopback
        return json.load(answer)


def is_without_champion(run: dict) -> bool:
    return run["state_name"] == "Completed" and run["state"]["message"].startswith("no champion yet")


@pytest.mark.faults
def test_the_schedule_fires_by_itself_waits_for_a_champion_publishes_what_is_fine_and_shows_what_is_held(
    home: Path, server: dict[str, str], tmp_path: Path
) -> None:
    inbox, out = tmp_path / "inbox", tmp_path / "scores"
    draw_inbox(inbox, n_images=20, seed=11)
    draw_negatives(inbox / "ward-3", inbox / "negatives")
    draw_study(inbox / "study")
    models = tmp_path / "models"
    places = {"inbox": str(inbox), "out": str(out), "models": str(models), "cache": str(home / "cache")}
    places |= {"dicom_out": str(tmp_path / "results")}
    parameters = places | {"name": "tiny", "settle": 0, "compile": "off"}
    prefect(server, "work-pool", "create", "cxr-cpu", "--type", "process", "--overwrite")
    prefect(
        server, "deploy", "--prefect-file", quick_deployment(parameters, {"interval": 5}, tmp_path), "--name", "quick"
    )
    command = [BIN / "prefect", "worker", "start", "--pool", "cxr-cpu"]
    with (tmp_path / "worker.log").open("w") as log:
        worker = subprocess.Popen(command, cwd=PROJECT, env=server, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_for(lambda: any(is_without_champion(run) for run in flow_runs(server)), "a run before the first champion")
        shutil.copytree(home / "models", tmp_path / "copied")
        (tmp_path / "copied").rename(models)
        wait_for(lambda: any(run["state_name"] == "Held" for run in flow_runs(server)), "a run that ends in state Held")
    finally:
        prefect(server, "deployment", "delete", "score-batch/quick")
        os.killpg(worker.pid, signal.SIGTERM)
        worker.wait(timeout=60)
    parts = list(out.glob("[!_]*/*.parquet"))
    rows = pd.concat([pd.read_parquet(part) for part in parts])
    assert set(rows["batch"]) == {"ward-3", "study"}
    assert rows["status"].value_counts().to_dict() == {"ok": 25, "quarantined": 6}
    assert [len(find_instances(tmp_path / "results", modality)) for modality in ("SR", "OT")] == [2, 2]
    assert not rows.duplicated(["batch", "path"]).any()
    held = [pd.read_parquet(part) for part in out.glob("_held/*/*/*/*.parquet")]
    assert set(pd.concat(held)["batch"]) == {"negatives"}
    (held_run,) = [run for run in flow_runs(server) if run["state_name"] == "Held"]
    assert "held: ['negatives']" in held_run["state"]["message"]
    assert re.fullmatch(r"tiny \d{4}-\d\d-\d\d \d\d:\d\d", held_run["name"])
    assert "negatives" in prefect(server, "artifact", "inspect", "report-tiny")
    assert "decision" in prefect(server, "artifact", "inspect", "scoring-run-tiny")


def test_a_night_waits_for_the_first_champion_but_not_for_a_misspelt_model(home: Path, tmp_path: Path) -> None:
    assert _is_without_champion(ModelFolder.named(tmp_path / "models", "tiny"))  # nothing yet
    models = Path(shutil.copytree(home / "models", tmp_path / "models"))
    assert not _is_without_champion(ModelFolder.named(models, "tiny"))
    assert not _is_without_champion(ModelFolder.named(models, "tyni"))
    ModelFolder.named(models, "tiny").champion.unlink()
    (models / "tiny" / "SHA256SUMS").unlink()
    (models / "tiny" / "promotions.json").unlink()
    assert _is_without_champion(ModelFolder.named(models, "tiny"))  # a version, and no champion


def test_the_nightly_deployment_has_a_cron_schedule_a_time_zone_and_lets_no_two_runs_meet() -> None:
    described = yaml.safe_load((PROJECT / "prefect.yaml").read_text())
    (nightly,) = [deployment for deployment in described["deployments"] if deployment["name"] == "nightly"]
    assert nightly["schedules"] == [{"cron": "0 2 * * *", "timezone": "{{ $TZ }}"}]
    assert nightly["concurrency_limit"] == {"limit": 1, "collision_strategy": "CANCEL_NEW"}
