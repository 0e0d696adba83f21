"""The Prefect server on PostgreSQL: a training and a scoring run, and what stands there after a restart."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment

from cxr.images.synthetic import draw_inbox
from deployments import services
from tests.support.images import draw_negatives
from tests.support.processes import PROJECT, wait_for
from tests.support.runs import PARAMETERS
from tests.support.servers import PrefectServer, free_port, webhook, worker

pytestmark = pytest.mark.faults


@pytest.fixture
def postgresql() -> Iterator[str]:
    """Debian's PostgreSQL with a database of the tests' own; yields its address as Prefect takes it."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"), key=lambda file: int(file.parts[-3]))
    if not versions:
        pytest.skip("PostgreSQL is not installed; on Debian: apt install postgresql")
    programs, port = versions[-1].parent, free_port()
    folder = Path(tempfile.mkdtemp(prefix="cxr-postgresql-"))  # pytest's own folders are closed to other users
    user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []  # it refuses to run as root
    if user:
        shutil.chown(folder, "postgres")

    def run(program: str, *words: object) -> None:
        command = [*user, programs / program, "--pgdata", folder / "data", *words]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)

    run("initdb", "--username=prefect", "--auth=trust", "--encoding=UTF8", "--no-sync")
    listening = f"-h 127.0.0.1 -p {port} -k {folder}"
    run("pg_ctl", "start", "--wait", "--log", folder / "log", "--options", listening)
    try:
        yield f"postgresql+asyncpg://prefect@127.0.0.1:{port}/postgres"
    finally:
        run("pg_ctl", "stop", "--mode=fast")
        shutil.rmtree(folder)


def test_a_training_and_a_scoring_run_on_postgresql_lock_nothing_are_told_and_outlive_a_restart_of_the_server(
    postgresql: str, home: Path, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(PROJECT)
    draw_inbox(tmp_path / "images", n_images=20, seed=11)
    (tmp_path / "inbox").mkdir()
    draw_negatives(tmp_path / "images" / "ward-3", tmp_path / "inbox" / "negatives")
    training = {"experiments": str(tmp_path / "experiments"), "cache": str(tmp_path / "cache")}
    scoring_run = {"inbox": str(tmp_path / "inbox"), "out": str(tmp_path / "scores"), "models": str(home / "models")}
    wanted = [
        ("train-cv/default", PARAMETERS | {"epochs": 1, "data": str(sample), "run_id": "run"} | training),
        ("train-cv/default", {"data": str(tmp_path / "nowhere")} | training),
        ("score-batch/nightly", scoring_run | {"name": "tiny", "cache": str(home / "cache"), "settle": 0}),
    ]
    server = PrefectServer(tmp_path, {"PREFECT_SERVER_DATABASE_CONNECTION_URL": postgresql})
    try:
        environment = services.PREFECT_DEFAULTS | server.environment
        with (
            webhook() as (address, told),
            services.talking_to_server(environment),
            get_client(sync_client=True) as client,
        ):
            services.deploy(environment, notify=address)
            with worker(services.CPU_POOL, "one", tmp_path, environment):
                begun = [run_deployment(name, parameters=with_, timeout=0) for name, with_ in wanted]

                def runs() -> list[FlowRun]:
                    return [client.read_flow_run(run.id) for run in begun]

                wait_for(lambda: all(run.state.is_final() for run in runs()), "all runs to end")
                wait_for(lambda: len(told) > 1, "the webhook to be told of what failed and is held", timeout_s=20)
            before = runs()
            server.kill()
            server.start()
            assert runs() == before
            (schedule,) = client.read_deployment_by_name("score-batch/nightly").schedules
    finally:
        server.stop()
    said = (tmp_path / "one.log").read_text()
    assert [run.state_name for run in before] == ["Completed", "Failed", "Held"], said
    texts = [json.loads(body)["text"] for body in told]
    for run in before[1:]:
        sentence = f"{run.name} ended as {run.state_name}: {run.state.message} "
        assert sum(sentence in text for text in texts) == 1
    assert len(told) == 2
    assert schedule.active
    assert "database is locked" not in server.log.read_text() + said
    assert not list(tmp_path.glob("*.db")), "SQLite's file"
    assert (tmp_path / "experiments" / "run" / "report.html").exists()
    assert list((tmp_path / "scores" / "_held").rglob("*.parquet"))
