"""A run whose Prefect server is killed under it: one of the tests' own, on a database that stays."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client

from deployments import services
from deployments.server import create_pools
from tests.support.processes import run_to_the_end, wait_for
from tests.support.runs import assert_same_tables, start_and_wait_for_epoch_2, train_command
from tests.support.servers import PrefectServer

pytestmark = pytest.mark.faults


@pytest.fixture
def mortal(server_home: Callable[[Path], Path], tmp_path: Path) -> Iterator[PrefectServer]:
    """A server that a test may kill."""
    server = PrefectServer(server_home(tmp_path))
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.stop()


def test_a_run_outlives_the_server_that_is_killed_and_started_again(
    undisturbed: Path, sample: Path, mortal: PrefectServer, tmp_path: Path
) -> None:
    shutil.copytree(undisturbed / "experiments", tmp_path / "experiments")
    command = [*train_command(sample, tmp_path), "--redo-fold=1"]
    process, _ = start_and_wait_for_epoch_2(1, command, tmp_path, mortal.environment)
    mortal.kill()
    wait_for(lambda: " tables: " in (tmp_path / "log").read_text(), "the run to need its server")
    mortal.start()
    assert process.wait(timeout=200) == 0, (tmp_path / "log").read_text()
    with services.talking_to_server(mortal.environment), get_client(sync_client=True) as client:
        (run,) = client.read_flow_runs()
    assert run.state_name == "Completed"
    assert_same_tables(tmp_path, undisturbed)


def test_a_run_whose_server_stays_away_says_so_in_one_sentence_and_the_same_command_finishes_it(
    undisturbed: Path, sample: Path, server: dict[str, str], mortal: PrefectServer, tmp_path: Path
) -> None:
    shutil.copytree(undisturbed / "experiments", tmp_path / "experiments")
    shutil.rmtree(tmp_path / "experiments" / "run" / "metrics")
    command = train_command(sample, tmp_path)
    impatient = mortal.environment | {"PREFECT_CLIENT_MAX_RETRIES": "1"}  # 2 seconds instead of a minute
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, env=impatient, stdout=log, stderr=log)
    wait_for(lambda: " images: " in (tmp_path / "log").read_text(), "the run to begin")
    mortal.kill()
    assert process.wait(timeout=120) == 2
    said = (tmp_path / "log").read_text()
    assert "error: Prefect's server no longer answers (" in said
    assert "the same command goes on from here once the server is up again." in said
    assert "Traceback" not in said
    assert "Still processing items" not in said, "it does not wait for events that nobody takes"
    result = run_to_the_end(command, server)
    assert result.returncode == 0, result.stderr
    assert "fold 1: already complete" in result.stderr
    assert_same_tables(tmp_path, undisturbed)


def test_a_pool_is_created_once_and_says_what_it_is_for(server: dict[str, str]) -> None:
    with services.talking_to_server(server), get_client(sync_client=True) as client:
        create_pools({"first": "For one thing."})
        create_pools({"first": "For another.", "second": "For a third."})
        pools = {pool.name: (pool.type, pool.description) for pool in client.read_work_pools()}
    assert pools["first"] == ("process", "For another.")
    assert pools["second"] == ("process", "For a third.")
