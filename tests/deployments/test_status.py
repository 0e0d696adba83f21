from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import FlowRun, WorkPool
from prefect.states import Completed, Scheduled

from deployments import status


def test_a_machine_without_services_says_what_is_down_and_where_logs_will_be(tmp_path: Path) -> None:
    server, page, worker, gpu = status.describe(tmp_path)
    assert server.split() == ["server", "down", "log", str(tmp_path / "server.log")]
    assert page.split()[:2] == ["page", "down"]
    assert worker.split()[:2] == ["worker-cxr-cpu", "down"]
    assert gpu.startswith("worker-cxr-gpu  none")


@pytest.mark.parametrize(
    ("n_gpus", "why"),
    [(0, "no GPU on this machine"), (2, "2 GPUs on this machine: `cxr up` starts a worker for each")],
)
def test_why_there_is_no_gpu_worker(n_gpus: int, why: str) -> None:
    assert status._why_no_gpu_worker(n_gpus) == why


def test_pools_and_runs_are_a_line_each() -> None:
    pools = [WorkPool(name="cxr-gpu", type="process"), WorkPool(name="cxr-cpu", type="process")]
    assert list(status._describe_pools(pools)) == [
        "pool            cxr-cpu: unknown",
        "pool            cxr-gpu: unknown",
    ]
    at = datetime(2026, 11, 26, 2, 0, tzinfo=UTC)
    done = FlowRun(name="brave-owl", flow_id=uuid4(), start_time=at, state=Completed(), state_name="Completed")
    coming = FlowRun(name="shy-fox", flow_id=uuid4(), next_scheduled_start_time=at, state=Scheduled())
    assert list(status._describe_runs([done], [coming])) == [
        "run             2026-11-26 02:00 UTC  Completed  brave-owl",
        "next            2026-11-26 02:00 UTC  shy-fox",
    ]
