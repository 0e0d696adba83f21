"""A Ray cluster: connecting to it, and folds as tasks on it, through prefect-ray's RayTaskRunner.

A fold goes to a node that has the CPU and the GPU it asks for. If a worker or a node dies, Ray starts its task again;
Prefect's retries happen in the worker. Every node needs the same installation of this program, access to the Prefect
server, the images at the path that the run began with, and access to the run's storage.
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
from cxr.errors import ConfigError, RunError

Submit = Callable[[Task[..., Any], dict[str, Any]], PrefectFuture[Any]]

TRIES_AFTER_A_LOST_NODE = 2
ANSWERS_IN_S = 5


@contextmanager
def connected(address: str | None, *, n_gpus: float) -> Iterator[None]:
    """Be connected to a cluster while the block runs.

    Args:
        address: HOST:PORT of the head, from a node of the cluster; ray://HOST:PORT from elsewhere; or auto.
        n_gpus: GPUs that something in the block asks for at once, 0 to 1.

    Raises:
        ConfigError: as for `require_cluster`, or the cluster runs another version of Ray, or no node has the GPU.
    """
    require_cluster(address)
    import ray

    try:
        ray.init(address=address, namespace="prefect", logging_level=logging.WARNING)
    except (ConnectionError, RuntimeError, SystemExit) as error:  # another program's port ends in SystemExit
        raise ConfigError(
            f"no Ray cluster of this Ray's version answers at --ray-address {address!r}: {error}"
        ) from error
    try:
        if all(resources.get("GPU", 0) < n_gpus for _, resources in nodes()):
            raise ConfigError(
                f"no node of the Ray cluster at {address!r} has a GPU: ask for 0 GPUs to use the nodes' CPUs."
            )
        yield
    finally:
        ray.shutdown()


@contextmanager
def ray_cluster(address: str | None, *, n_gpus: float) -> Iterator[Submit]:
    """Connect to a cluster; yield a function that submits a task with its parameters to one of the nodes.

    Args:
        address: of the cluster, as for `connected`.
        n_gpus: GPUs of each task, 0 to 1; Ray hides the others from it.

    Raises:
        ConfigError: as for `require_server` and `connected`.
    """
    require_server()
    with connected(address, n_gpus=n_gpus):
        from prefect_ray import RayTaskRunner
        from prefect_ray.context import remote_options

        options = {"num_cpus": 1, "num_gpus": n_gpus, "max_retries": TRIES_AFTER_A_LOST_NODE}
        with RayTaskRunner() as runner, remote_options(**options, scheduling_strategy="SPREAD"):
            yield lambda task, parameters: runner.submit(_with_its_log_sent(task), parameters)


def nodes() -> list[tuple[str, dict[str, float]]]:
    """Return the id and the resources of each node that is up."""
    import ray

    return [(node["NodeID"], node["Resources"]) for node in ray.nodes() if node["Alive"]]


def result(reference: Any) -> Any:
    """Return what a task or an actor's method returned, or raise what it raised.

    Raises:
        RayActorError: the actor's process was lost.
        RunError: the process of a task was lost again and again.
    """
    import ray
    from ray.exceptions import RayActorError, RayError, RayTaskError

    try:
        return ray.get(reference)
    except RayActorError:
        raise
    except RayError as error:
        cause = error.cause if isinstance(error, RayTaskError) else error
        raise (
            lost_too_often("reads files", 1 + TRIES_AFTER_A_LOST_NODE, cause) if isinstance(cause, RayError) else cause
        ) from error


def lost_too_often(what: str, n_times: int, error: Exception) -> RunError:
    """Return the error for work whose process was lost each time.

    Args:
        what: the process does.
        n_times: how often it was lost.
        error: Ray's report.
    """
    return RunError(
        f"the cluster lost the process that {what} {n_times} times in a row ({first_line(error)}): see Ray's logs for "
        "the cause; what is scored is kept, and the same command goes on from here."
    )


def first_line(error: Exception) -> str:
    """Return the first line of Ray's report of a loss, which has many."""
    return str(error).partition("\n")[0]


def _with_its_log_sent(task: Task[..., Any]) -> Task[..., Any]:
    """Return the task with hooks that send its last log lines: Ray may end the worker before Prefect would."""
    return task.with_options(on_completion=[_send_log], on_failure=[_send_log])


def _send_log(task: Task[..., Any], run: TaskRun, state: State) -> None:
    APILogHandler().flush()


def require_server() -> None:
    """Raise ConfigError unless a Prefect server is named, to which the nodes tell what becomes of their tasks."""
    if PREFECT_API_URL.value() is None:
        raise ConfigError(
            "--runner ray needs a Prefect server that every node reaches: start one and set PREFECT_API_URL, for "
            "instance to http://HOST:4200/api."
        )


def require_cluster(address: str | None) -> None:
    """Check all that can be checked before hours are spent on reading images.

    Raises:
        ConfigError: cxr is installed from a wheel, in which Ray's processes do not find `tasks`, or without the extra;
            no address is given, or nothing answers.
    """
    if application.is_carried():
        raise ConfigError("--runner ray needs a checkout of cxr on every node (`make setup`), not an installed wheel.")
    if importlib.util.find_spec("prefect_ray") is None:
        raise ConfigError("--runner ray needs prefect-ray and Ray: install cxr with the extra [ray].")
    if address is None:
        raise ConfigError("--runner ray needs --ray-address: HOST:PORT on a node, ray://HOST:PORT elsewhere, or auto.")
    if address == "auto":
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=ANSWERS_IN_S).close()
    except (OSError, ValueError) as error:
        raise ConfigError(f"no Ray cluster answers at --ray-address {address!r}: {error}.") from error
