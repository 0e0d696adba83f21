"""Tasks on a Ray cluster, through prefect-ray's RayTaskRunner: each on a node that has the CPU and the GPU it asks for.

If a worker or a node dies, Ray starts its task again; Prefect's retries happen in the worker. Every node needs the same
installation of this program, access to the Prefect server, the images at the path that the run began with, and access
to the run's storage.
"""

import importlib.util
import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from prefect import State, Task
from prefect.client.schemas.objects import TaskRun
from prefect.futures import PrefectFuture
from prefect.logging.handlers import APILogHandler
from prefect.settings import PREFECT_API_URL

from cxr import application
from cxr.errors import ConfigError

Submit = Callable[[Task[..., Any], dict[str, Any]], PrefectFuture[Any]]

TRIES_AFTER_A_LOST_NODE = 2
ANSWERS_IN_S = 5


@contextmanager
def ray_cluster(address: str | None, *, n_gpus: float) -> Iterator[Submit]:
    """Connect to a cluster; yield a function that submits a task with its parameters to one of the nodes.

    Args:
        address: HOST:PORT of the head, from a node of the cluster; ray://HOST:PORT from elsewhere; or auto.
        n_gpus: GPUs of each task, 0 to 1; Ray hides the others from it.

    Raises:
        ConfigError: as for `require_cluster`, or the cluster runs another version of Ray, or no node has the GPU.
    """
    require_cluster(address)
    import ray
    from prefect_ray import RayTaskRunner
    from prefect_ray.context import remote_options

    try:
        ray.init(address=address, namespace="prefect", logging_level=logging.WARNING)
    except (ConnectionError, RuntimeError, SystemExit) as error:  # another program's port ends in SystemExit
        raise ConfigError(
            f"no Ray cluster of this Ray's version answers at --ray-address {address!r}: {error}"
        ) from error
    try:
        if all(node["Resources"].get("GPU", 0) < n_gpus for node in ray.nodes() if node["Alive"]):
            raise ConfigError(
                f"no node of the Ray cluster at {address!r} has a GPU: ask for 0 GPUs to use the nodes' CPUs."
            )
        options = {"num_cpus": 1, "num_gpus": n_gpus, "max_retries": TRIES_AFTER_A_LOST_NODE}
        with RayTaskRunner() as runner, remote_options(**options, scheduling_strategy="SPREAD"):
            yield lambda task, parameters: runner.submit(_with_its_log_sent(task), parameters)
    finally:
        ray.shutdown()


def _with_its_log_sent(task: Task[..., Any]) -> Task[..., Any]:
    """Return the task with hooks that send its last log lines: Ray may end the worker before Prefect would."""
    return task.with_options(on_completion=[_send_log], on_failure=[_send_log])


def _send_log(task: Task[..., Any], run: TaskRun, state: State) -> None:
    APILogHandler().flush()


def require_cluster(address: str | None) -> None:
    """Check all that can be checked before hours are spent on reading images.

    Raises:
        ConfigError: cxr is installed from a wheel, in which Ray's processes do not find `tasks`, or without the extra;
            no Prefect server is named, no address is given, or nothing answers.
    """
    if application.is_carried():
        raise ConfigError("--runner ray needs a checkout of cxr on every node (`make setup`), not an installed wheel.")
    if importlib.util.find_spec("prefect_ray") is None:
        raise ConfigError("--runner ray needs prefect-ray and Ray: install cxr with the extra [ray].")
    if PREFECT_API_URL.value() is None:
        raise ConfigError(
            "--runner ray needs a Prefect server that every node reaches: start one and set PREFECT_API_URL, for "
            "instance to http://HOST:4200/api."
        )
    if address is None:
        raise ConfigError("--runner ray needs --ray-address: HOST:PORT on a node, ray://HOST:PORT elsewhere, or auto.")
    if address == "auto":
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=ANSWERS_IN_S).close()
    except (OSError, ValueError) as error:
        raise ConfigError(f"no Ray cluster answers at --ray-address {address!r}: {error}.") from error
