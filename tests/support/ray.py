"""A Ray cluster on this machine."""

import importlib.util
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.support.processes import BIN, wait_for
from tests.support.servers import free_port


class RayNode:
    """A node of a Ray cluster on this machine: `ray start` and its children."""

    def __init__(self, log: Path, *words: str) -> None:
        always = ["--num-cpus=1", "--num-gpus=0", "--object-store-memory=80000000", "--dashboard-agent-listen-port=0"]
        environment = os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "RAY_raylet_start_wait_time_s": "120"}
        with log.open("w") as stream:
            self.process = subprocess.Popen(
                [BIN / "ray", "start", "--block", *always, *words],
                cwd=log.parent,
                env=environment,
                stdout=stream,
                stderr=stream,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        wait_for(lambda: "Ray runtime started" in log.read_text() or self.process.poll() is not None, "a Ray node")
        assert self.process.poll() is None, log.read_text()

    def kill(self) -> None:
        """Kill the node, as a power cut would."""
        if self.process.poll() is None:
            for process in [*psutil.Process(self.process.pid).children(recursive=True), self.process]:
                process.kill()
            self.process.wait()


@contextmanager
def ray_nodes(home: Path, n_nodes: int) -> Iterator[tuple[str, list[RayNode]]]:
    """Start nodes of one CPU each, in this environment; yields the cluster's address and the nodes, head first."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("Ray is not installed: it is the extra [ray]")
    address = f"127.0.0.1:{free_port()}"
    sockets = tempfile.TemporaryDirectory(prefix="cxr-ray-", ignore_cleanup_errors=True)  # longer paths are refused
    nodes = []
    try:
        head = f"--port={address.rpartition(':')[2]}", f"--ray-client-server-port={free_port()}"
        nodes.append(
            RayNode(
                home / "node-0.log",
                "--head",
                "--include-dashboard=false",
                *head,
                "--node-ip-address=127.0.0.1",
                f"--temp-dir={sockets.name}",
            )
        )
        for k in range(1, n_nodes):  # one by one: nodes that start together may choose the same ports
            nodes.append(RayNode(home / f"node-{k}.log", f"--address={address}", f"--node-ip-address=127.0.0.{k + 1}"))
        yield address, nodes
    finally:
        for node in reversed(nodes):
            node.kill()
        sockets.cleanup()
