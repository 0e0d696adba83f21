from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import FlowRun, WorkPool
from prefect.states import Completed, Crashed, Failed, Scheduled, State

from deployments import status


def test_a_machine_without_services_says_what_is_down_and_where_logs_will_be(tmp_path: Path) -> None:
    server, endpoint, page, worker, gpu = status.describe(status.survey(tmp_path))
    assert server.split() == ["server", "down", "log", str(tmp_path / "server.log")]
    assert endpoint.split()[:2] == ["endpoint", "down"]
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
    pools = [status._pool(WorkPool(name=name, type="process")) for name in ("cxr-cpu", "cxr-gpu")]
    flow, at = uuid4(), datetime(2026, 11, 26, 2, 0, tzinfo=UTC)
    done = FlowRun(name="brave-owl", flow_id=flow, start_time=at, state=Completed(), state_name="Completed")
    coming = FlowRun(name="shy-fox", flow_id=flow, next_scheduled_start_time=at, state=Scheduled())
    runs = [[status._run(run, {flow: "score-batch"})] for run in (done, coming)]
    lines = status.describe(status.Survey((), "http://127.0.0.1:4200", False, pools, *runs))
    assert lines[1:] == [
        "UI              http://127.0.0.1:4200",
        "pool            cxr-cpu: unknown",
        "pool            cxr-gpu: unknown",
        "run             2026-11-26 02:00 UTC  Completed  score-batch brave-owl",
        "next            2026-11-26 02:00 UTC  score-batch",
    ]


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        (Failed(message="Flow run encountered an exception: RunError: run a is in use."), "run a is in use."),
        (Failed(message="Task run encountered an exception ConfigError: no class 'X'.\ntrace"), "no class 'X'."),
        (
            Failed(name="Held", message="5 scored; held: ['a']: look at report.html"),
            "5 scored; held: ['a']: look at report.html",
        ),
        (Crashed(message="its worker has gone"), "its worker has gone"),
    ],
)
def test_a_run_that_ended_badly_is_followed_by_the_sentence_of_its_failure(state: State, sentence: str) -> None:
    flow, at = uuid4(), datetime(2026, 11, 26, 2, 0, tzinfo=UTC)
    run = FlowRun(name="brave-owl", flow_id=flow, start_time=at, state=state, state_name=state.name)
    lines = status.describe(status.Survey((), runs=[status._run(run, {flow: "train-cv"})]))
    assert lines[1:] == [
        f"run             2026-11-26 02:00 UTC  {state.name}  train-cv brave-owl",
        f"                {sentence}",
    ]
