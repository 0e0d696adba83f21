"""A real Ray cluster of three nodes, `ray start` each, and a real Prefect server."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
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
from tasks.ray_cluster import connected, require_cluster, require_server
from tests.support.processes import wait_for
from tests.support.ray import RayNode
from tests.support.runs import assert_same_tables, train_command
from tests.support.scoring import command as score_command
from tests.support.scoring import score
from tests.support.scoring import table as published
from tests.support.servers import free_port

Cluster = tuple[str, list[RayNode]]
GPU = ("--num-cpus=0", "--num-gpus=1")


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


def test_a_cluster_without_gpus_is_told_at_once(ray_cluster: Cluster) -> None:
    with (
        pytest.raises(ConfigError, match=r"no node of the Ray cluster at '127.0.0.1:\d+' has a GPU"),
        connected(ray_cluster[0], n_gpus=1),
    ):
        pass


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


def is_at(node: RayNode, work: str) -> bool:
    """Whether a process of the node, which Ray names after its work, does this."""
    return any(work in process.name() for process in psutil.Process(node.process.pid).children(recursive=True))


def node_that_reads(nodes: list[RayNode]) -> RayNode | None:
    """Another node than the head that reads files."""
    alive = (node for node in nodes[1:] if node.process.poll() is None)
    return next((node for node in alive if is_at(node, "ray::read_step")), None)


@contextmanager
def gpu_node(home: Path, address: str) -> Iterator[RayNode]:
    """A node that has no CPU to read with, and says that it has a GPU; killed when the block ends."""
    node = RayNode(home / "gpu.log", f"--address={address}", "--node-ip-address=127.0.0.9", *GPU)
    try:
        yield node
    finally:
        node.kill()


def test_a_batch_scored_with_a_node_killed_in_each_stage_has_the_rows_of_one_process_each_once(
    home: Path, ray_cluster: Cluster, server: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, nodes = ray_cluster
    inbox, log = tmp_path / "inbox", tmp_path / "log"
    draw_inbox(inbox, n_images=20, seed=11)
    images = sorted((inbox / "ward-3").glob("image-*.jpeg"))
    for k in range(540):  # bytes after its end make another image, of which there are copies in other chunks
        images[0].with_name(f"other-{k:04d}.jpeg").write_bytes(images[k % 20].read_bytes() + b"%d" % (k % 280))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as at a network on Ray: the number of threads decides the last bits
    alone = score(home, inbox, tmp_path / "alone")
    with log.open("w") as stream:
        command = score_command(home, inbox, tmp_path / "ray", "--runner=ray", f"--ray-address={address}")
        with gpu_node(tmp_path, address) as first:
            process = subprocess.Popen(command, env=server, stdout=stream, stderr=stream)
            wait_for(lambda: node_that_reads(nodes) or process.poll() is not None, "a node that reads")
            reader = node_that_reads(nodes)
            assert reader is not None, log.read_text()
            reader.kill()
            wait_for(lambda: is_at(first, "ray::Network.answer") or process.poll() is not None, "a network at work")
            assert process.poll() is None, log.read_text()
        with gpu_node(tmp_path, address):
            assert process.wait(timeout=240) == alone.returncode == 0, log.read_text()
    rows, expected = published(tmp_path / "ray"), published(tmp_path / "alone")
    assert len(rows) == 566
    pd.testing.assert_frame_equal(rows, expected, check_exact=True)
    assert "a process with the model was lost" in log.read_text()


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
    with pytest.raises(ConfigError, match=sentence):
        require_cluster(address and address.format(free=free_port()))


def test_what_ray_needs_besides_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with temporary_settings({PREFECT_API_URL: None}), pytest.raises(ConfigError, match="every node reaches"):
        require_server()
    monkeypatch.setitem(sys.modules, "prefect_ray", None)  # as if it were not installed
    with pytest.raises(ConfigError, match=r"extra \[ray\]"):
        require_cluster("127.0.0.1:6379")
    (tmp_path / "cxr" / application.CARRIED).mkdir(parents=True)
    monkeypatch.setattr(cxr, "__file__", str(tmp_path / "cxr" / "__init__.py"))
    with pytest.raises(ConfigError, match="needs a checkout of cxr on every node"):
        require_cluster("127.0.0.1:6379")
