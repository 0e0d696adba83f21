"""Feedback as a flow, on a real server: a model that is surely below its promise is trained again by itself."""

import subprocess
import sys
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client

from deployments import services
from tests.support.processes import BIN, PROJECT, wait_for
from tests.support.scores import draw_scores, write_labels

TRUTH = [number % 2 == 0 for number in range(400)]
CODE = """
import sys
from pathlib import Path
from flows.feedback import feedback
labels, models, out, cache = sys.argv[1:]
state = feedback("tiny", [labels], models=Path(models), out=Path(out), cache=Path(cache), return_state=True)
print(state.type.value, state.name, state.message, sep="|")
"""


def give(server: dict[str, str], home: Path, place: Path, labels: dict[str, str]) -> tuple[str, str, str]:
    """Run the flow on labels; return type, name and message of the state in which it ends."""
    file = write_labels(place / "labels.csv", labels)
    places = [file, home / "models", place / "scores", place / "cache"]
    command = [sys.executable, "-W", "ignore", "-c", CODE, *map(str, places)]
    ended = subprocess.run(command, cwd=PROJECT, env=server, capture_output=True, text=True, timeout=200, check=False)
    assert ended.returncode == 0, ended.stderr
    kind, name, message = ended.stdout.strip().splitlines()[-1].split("|")
    return kind, name, message


@pytest.mark.faults
def test_a_model_that_is_surely_below_its_promise_is_trained_again_once_that_is_asked_for(
    home: Path, server: dict[str, str], tmp_path: Path
) -> None:
    command = [str(BIN / "cxr"), "deploy", "--retrain"]
    ended = subprocess.run(command, cwd=PROJECT, env=server, capture_output=True, text=True, timeout=200, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "a run of feedback that ends in state SurelyBelow starts retrain/default" in ended.stdout
    draw_scores(tmp_path / "scores", TRUTH, shift=-6.0)
    labels = {f"monday/{k}.png": "PNEUMONIA" if of_class else "NORMAL" for k, of_class in enumerate(TRUTH)}
    few = give(server, home, tmp_path, dict(list(labels.items())[:4]))
    assert few[:2] == ("COMPLETED", "Completed")
    kind, name, message = give(server, home, tmp_path, labels)
    assert (kind, name) == ("FAILED", "SurelyBelow")
    assert message == "396 new labels, 0 corrections; version 1: surely below"
    with services.talking_to_server(server), get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name("retrain/default")

        def started() -> list[dict]:
            return [run.parameters for run in client.read_flow_runs() if run.deployment_id == deployment.id]

        wait_for(lambda: bool(started()), "the automation to start a run")
        assert [parameters["name"] for parameters in started()] == ["tiny"]
