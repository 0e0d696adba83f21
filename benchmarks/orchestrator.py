"""Prefect's own limit: the time of a flow of many tasks that do nothing, on either database, with Redis or without.

    python -m benchmarks.orchestrator
    python -m benchmarks.orchestrator --database postgresql+asyncpg://user@127.0.0.1:5432/prefect
    python -m benchmarks.orchestrator --messages redis://127.0.0.1:6379/0

The tasks are called one after another, as scoring calls its chunks, against a server of the benchmark's own on a free
port. The benchmark counts the lines about a locked database in its log, and the task runs whose end the server never
learns: a client reports task runs in messages, of which the server keeps at most 10,000 in memory and drops the others,
unless it keeps them in Redis.
"""

import argparse
import contextlib
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.results import keep
from deployments.services import is_healthy

BIN = Path(sys.executable).parent
SETTLED_AFTER_S = 20
"""The server is taken to be through with its messages once it has learned nothing new for this long."""
REDIS = {
    "PREFECT_SERVER_EVENTS_MESSAGING_BROKER": "prefect_redis.messaging",
    "PREFECT_SERVER_EVENTS_MESSAGING_CACHE": "prefect_redis.messaging",
    "PREFECT_SERVER_EVENTS_CAUSAL_ORDERING": "prefect_redis.ordering",
}
"""What makes the server keep its messages in the Redis that PREFECT_REDIS_MESSAGING_URL names."""
FLOW = """
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
import sys, time

@task(cache_policy=NO_CACHE)
def nothing(number):
    pass

@flow
def chunks(n):
    for number in range(n):
        nothing(number)

start = time.perf_counter()
chunks(int(sys.argv[1]))
print("seconds", time.perf_counter() - start)
"""
COUNT = """
from prefect.client.orchestration import get_client
with get_client(sync_client=True) as client:
    done = {"task_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}}
    print(client._client.post("/task_runs/count", json=done).json())
"""


def main() -> None:
    """Run the flow with each number of tasks, print the times, keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", help="SQLAlchemy URL of an empty database; SQLite in a folder of its own if none")
    parser.add_argument("--messages", help="URL of an empty Redis that keeps the server's messages; its memory if none")
    parser.add_argument("--tasks", default="1000,10000")
    arguments = parser.parse_args()
    kind = arguments.database.partition("+")[0] if arguments.database else "sqlite"
    settings = {"PREFECT_SERVER_DATABASE_CONNECTION_URL": arguments.database} if arguments.database else {}
    settings |= REDIS | {"PREFECT_REDIS_MESSAGING_URL": arguments.messages} if arguments.messages else {}
    figures: dict[str, object] = {"database": kind, "messages": "redis" if arguments.messages else "memory"}
    with tempfile.TemporaryDirectory() as scratch, _server(Path(scratch), settings) as (environment, log):
        n_before = n_known = 0
        for n_tasks in map(int, arguments.tasks.split(",")):
            seconds = float(_run(environment, FLOW, str(n_tasks)).rpartition("seconds ")[2])
            n_known, settling = _settle(environment, n_before + n_tasks)
            figures |= {
                f"{n_tasks} tasks, s": round(seconds, 1),
                f"{n_tasks} tasks, tasks/s": round(n_tasks / seconds, 1),
                f"{n_tasks} tasks, s until the server was through": round(settling, 1),
                f"{n_tasks} tasks, the server never learnt the end of": n_before + n_tasks - n_known,
            }
            n_before = n_known
        if kind == "sqlite":
            n_bytes = sum(file.stat().st_size for file in Path(scratch).glob("prefect.db*"))
            figures["database, KiB/task"] = round(n_bytes / 1024 / n_known, 2)
        text = log.read_text()
        figures["database is locked, lines in the log"] = len(re.findall("database is locked", text))
        figures["messages dropped, lines in the log"] = len(re.findall("dropping message", text))
        figures["errors in the log"] = len(re.findall(r"\| ERROR|Traceback", text))
    keep(f"orchestrator_{kind}{'_redis' if arguments.messages else ''}", figures)


@contextlib.contextmanager
def _server(home: Path, settings: dict[str, str]) -> Iterator[tuple[dict[str, str], Path]]:
    """Start a server with Prefect's settings; yield the environment of its clients, and its log."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        **settings,
    }
    log = home / "server.log"
    with log.open("w") as stream:
        command = [str(BIN / "prefect"), "server", "start", "--port", str(port)]
        process = subprocess.Popen(command, env=environment, stdout=stream, stderr=stream)
    try:
        deadline = time.monotonic() + 120
        while not is_healthy(f"http://127.0.0.1:{port}"):
            if time.monotonic() > deadline:
                sys.exit(f"no server within two minutes: {log.read_text()[-2000:]}")
            time.sleep(0.2)
        yield environment, log
    finally:
        process.terminate()
        process.wait(timeout=60)


def _run(environment: dict[str, str], code: str, *words: str) -> str:
    quiet = environment | {"PREFECT_LOGGING_LEVEL": "WARNING"}
    ended = subprocess.run([sys.executable, "-c", code, *words], env=quiet, capture_output=True, text=True, check=False)
    if ended.returncode:
        sys.exit(ended.stderr)
    return ended.stdout.strip()


def _settle(environment: dict[str, str], n_tasks: int) -> tuple[int, float]:
    """Wait until the server counts a number of task runs as completed, or has counted no more for a while.

    Returns:
        The number that it counts, and the seconds until it did.
    """
    start = time.perf_counter()
    n_known, known_after = int(_run(environment, COUNT)), 0.0
    while n_known < n_tasks and time.perf_counter() - start - known_after < SETTLED_AFTER_S:
        time.sleep(1)
        n_now = int(_run(environment, COUNT))
        if n_now > n_known:
            n_known, known_after = n_now, time.perf_counter() - start
    return n_known, known_after


if __name__ == "__main__":
    main()
