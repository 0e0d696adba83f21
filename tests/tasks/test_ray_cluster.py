"""A real Ray cluster of three nodes, `ray start` each, and a real Prefect server."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import psutil
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import LogFilter
from prefect.client.schemas.sorting import FlowRunSort
from prefect.settings import PREFECT_API_URL, temporary_settings

import cxr
from cxr import application
from cxr.errors import ConfigError
from cxr.images.synthetic import draw_inbox
from cxr.storage.run_folder import RunFolder
from tasks.ray_cluster import ray_cluster as connected
from tasks.ray_cluster import require_cluster
from tests.support.processes import wait_for
from tests.support.ray import RayNode
from tests.support.runs import assert_same_tables, train_command
from tests.support.scoring import command as score_command
from tests.support.scoring import score
from tests.support.scoring import table as published
from tests.support.servers import free_port

Cluster = tuple[str, list[RayNode]]


pytestmark = pytest.mark.faults


def node_amid_a_fold(run: RunFolder, nodes: list[RayNode]) -> RayNode | None:
    """Another node than the head that trains a fold which has a checkpoint."""
    for fold in (run.fold(0), run.fold(1)):
        if fold.checkpoint.exists():
            trainer = psutil.Process(json.loads(fold.lock.with_suffix(".json").read_text())["pid"])
            ancestors = {parent.pid for parent in trainer.parents()}
            for node in nodes[1:]:
                if node.process.pid in ancestors:
                    return node
    return None


def lines_in_prefect(server: dict[str, str]) -> list[str]:
    """What the server holds of the log of the flow run that began last."""
    with (
        temporary_settings({PREFECT_API_URL: server["PREFECT_API_URL"]}),
        get_client(sync_client=True) as client,
    ):
        (run,) = client.read_flow_runs(sort=FlowRunSort.START_TIME_DESC, limit=1)
        wanted = LogFilter.model_validate({"flow_run_id": {"any_": [str(run.id)]}})
        return [line.message for line in client.read_logs(wanted, limit=200)]


def test_a_node_killed_amid_a_fold_costs_nothing_and_the_tables_equal_the_undisturbed_ones(
    undisturbed: Path, ray_cluster: Cluster, server: dict[str, str], sample: Path, tmp_path: Path
) -> None:
    address, nodes = ray_cluster
    run = RunFolder.named(tmp_path / "experiments", "run")
    words = ["--runner=ray", f"--ray-address={address}", "--gpus-per-fold=0"]
    patient = server | {"PREFECT_LOGGING_TO_API_BATCH_INTERVAL": "600"}  # seconds: no line goes out by itself
    command = [*train_command(sample, tmp_path), *words]
    with (tmp_path / "log").open("w") as stream:
        process = subprocess.Popen(command, env=patient, stdout=stream, stderr=stream)
    try:
        wait_for(lambda: node_amid_a_fold(run, nodes) or process.poll() is not None, "a fold's first checkpoint")
        victim = node_amid_a_fold(run, nodes)
        assert victim is not None, (tmp_path / "log").read_text()
        victim.kill()
        assert process.wait(timeout=240) == 0, (tmp_path / "log").read_text()
    finally:
        process.kill()
    log = (tmp_path / "log").read_text()
    assert "resumed after" in log
    lines = lines_in_prefect(server)
    for fold in (0, 1):  # the last line of each, too
        assert any(line.startswith(f"fold {fold}: predicted") for line in lines), lines
    assert_same_tables(tmp_path, undisturbed)


def node_amid_a_chunk(nodes: list[RayNode]) -> RayNode | None:
    """Another node than the head that scores."""
    for node in nodes[1:]:
        if node.process.poll() is None:
            titles = [process.name() for process in psutil.Process(node.process.pid).children(recursive=True)]
            if any("score_chunk" in title for title in titles):
                return node
    return None


def test_chunks_scored_on_the_cluster_with_a_node_killed_amid_one_are_the_rows_of_one_process_each_once(
    home: Path, ray_cluster: Cluster, server: dict[str, str], tmp_path: Path
) -> None:
    address, nodes = ray_cluster
    inbox = tmp_path / "inbox"
    draw_inbox(inbox, n_images=20, seed=11)
    images = sorted((inbox / "ward-3").glob("image-*.jpeg"))
    for k in range(600 - len(images)):
        shutil.copy(images[k % len(images)], images[0].with_name(f"copy-{k:03d}.jpeg"))
    alone = score(home, inbox, tmp_path / "alone")
    words = ["--runner=ray", f"--ray-address={address}", "--gpus-per-chunk=0"]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            score_command(home, inbox, tmp_path / "ray", *words), env=server, stdout=log, stderr=log
        )
    try:
        wait_for(lambda: node_amid_a_chunk(nodes) or process.poll() is not None, "a chunk under way")
        victim = node_amid_a_chunk(nodes)
        assert victim is not None, (tmp_path / "log").read_text()
        victim.kill()
        assert process.wait(timeout=240) == alone.returncode == 0, (tmp_path / "log").read_text()
    finally:
        process.kill()
    rows, expected = published(tmp_path / "ray"), published(tmp_path / "alone")
    assert len(rows) == 606
    pd.testing.assert_frame_equal(rows, expected, rtol=0, atol=1e-6)


def test_a_cluster_without_gpus_is_told_at_once(ray_cluster: Cluster, server: dict[str, str]) -> None:
    with (
        temporary_settings({PREFECT_API_URL: server["PREFECT_API_URL"]}),
        pytest.raises(ConfigError, match=r"no node of the Ray cluster at '127.0.0.1:\d+' has a GPU"),
        connected(ray_cluster[0], n_gpus=1),
    ):
        pass


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        (None, "--runner ray needs --ray-address"),
        ("127.0.0.1:{free}", "no Ray cluster answers at --ray-address '127.0.0.1:"),
        ("ray://nowhere.invalid:1", "no Ray cluster answers at --ray-address 'ray://nowhere.invalid:1'"),
        ("head", "no Ray cluster answers at --ray-address 'head'"),
    ],
)
def test_an_address_where_nothing_answers_is_told_in_one_sentence(address: str | None, sentence: str) -> None:
    with (
        temporary_settings({PREFECT_API_URL: "http://127.0.0.1:4200/api"}),
        pytest.raises(ConfigError, match=sentence),
    ):
        require_cluster(address and address.format(free=free_port()))


def test_what_ray_needs_besides_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with temporary_settings({PREFECT_API_URL: None}), pytest.raises(ConfigError, match="every node reaches"):
        require_cluster("127.0.0.1:6379")
    monkeypatch.setitem(sys.modules, "prefect_ray", None)  # as if it were not installed
    with pytest.raises(ConfigError, match=r"extra \[ray\]"):
        require_cluster("127.0.0.1:6379")
    (tmp_path / "cxr" / application.CARRIED).mkdir(parents=True)
    monkeypatch.setattr(cxr, "__file__", str(tmp_path / "cxr" / "__init__.py"))
    with pytest.raises(ConfigError, match="needs a checkout of cxr on every node"):
        require_cluster("127.0.0.1:6379")
