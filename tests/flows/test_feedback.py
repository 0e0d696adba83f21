"""Feedback as a flow, on a real server: a model that is surely below its promise is trained again by itself."""

import subprocess
import sys
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client

from cxr.errors import RunError
from deployments import services
from tasks.retraining import require_deployment
from tests.support.processes import BIN, PROJECT
from tests.support.scores import draw_scores, write_labels

TRUTH = [number % 2 == 0 for number in range(400)]
CODE = """
import sys
from pathlib import Path
from flows.feedback import feedback
labels, models, out, cache = sys.argv[1:]
places = {"models": Path(models), "out": Path(out), "cache": Path(cache)}
state = feedback("tiny", [labels], **places, retrain=True, return_state=True)
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


def deploy(server: dict[str, str], *options: str) -> str:
    """Type `cxr deploy`; return what it says."""
    command = [str(BIN / "cxr"), "deploy", *options]
    ended = subprocess.run(command, cwd=PROJECT, env=server, capture_output=True, text=True, timeout=200, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def asked_for(server: dict[str, str]) -> bool | None:
    """Return whether runs of feedback/default start retrainings."""
    with services.talking_to_server(server), get_client(sync_client=True) as client:
        return client.read_deployment_by_name("feedback/default").parameters.get("retrain")


def retrainings(server: dict[str, str]) -> list[str]:
    """Return the model of each run of retrain/default that was ever started."""
    with services.talking_to_server(server), get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name("retrain/default")
        return [run.parameters["name"] for run in client.read_flow_runs() if run.deployment_id == deployment.id]


@pytest.mark.faults
def test_a_model_that_is_surely_below_its_promise_is_trained_again_once_for_the_same_labels(
    home: Path, server: dict[str, str], tmp_path: Path
) -> None:
    with services.talking_to_server(server), pytest.raises(RunError, match="retrain/default: type `cxr deploy`"):
        require_deployment()
    said = deploy(server, "--retrain")
    assert "a run of feedback/default that finds a model surely below its promise starts retrain/default" in said
    assert asked_for(server) is True
    draw_scores(tmp_path / "scores", TRUTH, shift=-6.0)
    labels = {f"monday/{k}.png": "PNEUMONIA" if of_class else "NORMAL" for k, of_class in enumerate(TRUTH)}
    few = give(server, home, tmp_path, dict(list(labels.items())[:4]))
    assert few[:2] == ("COMPLETED", "Completed")
    assert retrainings(server) == []
    kind, name, message = give(server, home, tmp_path, labels)
    assert (kind, name) == ("FAILED", "SurelyBelow")
    assert message == "396 new labels, 0 corrections; version 1: surely below"
    assert retrainings(server) == ["tiny"]
    assert give(server, home, tmp_path, labels)[1] == "SurelyBelow", "the same labels"
    assert retrainings(server) == ["tiny"]
    corrected = give(server, home, tmp_path, labels | {"monday/0.png": "NORMAL"})
    assert corrected[1:] == ("SurelyBelow", "0 new labels, 1 corrections; version 1: surely below")
    assert retrainings(server) == ["tiny", "tiny"]


@pytest.mark.faults
def test_whether_models_are_trained_again_stays_as_it_was_until_it_is_asked_for_again(server: dict[str, str]) -> None:
    deploy(server, "--retrain")
    assert "starts retrain/default" in deploy(server)
    assert asked_for(server) is True
    assert "starts retrain/default" not in deploy(server, "--no-retrain")
    assert not asked_for(server)
