"""Walk the deployment in containers as `docs/how-to/deploy.md` describes it, with a real engine: build, train, score,
kill, restart, upgrade, back up, restore.

    python -m tests.containers                                              # docker, with its plugin compose
    python -m tests.containers --engine podman --compose podman-compose
    python -m tests.containers --upgrade-from f776b6e                       # begin with that commit's database and run
    python -m tests.containers --device gpu --build=--network=host          # further words for `docker build`
    python -m tests.containers --built                                      # with the images of an earlier trial

It takes an hour or less and 25 GB, needs the ports 4200, 8501, 8600 and 11112 and, as it hands folders to user 1000,
root. The images are called `cxr:cpu` and `cxr:gpu`; containers and volumes belong to a compose project of the trial's
own and are removed at the end. `--device gpu` builds the image with CUDA's torch and uses it for everything, where
PyTorch's own index cannot be reached. The exit code is 1 if a step fails.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
import pyarrow.dataset
import yaml

PROJECT = Path(__file__).parents[1]
NAME = "cxr-trial"
SECRETS = {"CXR_AUTH": "cxr:trial", "CXR_DATABASE_PASSWORD": "trial", "CXR_CALLER": "TRIAL"}
IN_ORDER = ("database", "redis", "server", "deploy", "worker-cpu", "page", "endpoint", "receiver")
FOLDERS = ("cache", "data", "experiments", "inbox", "models", "scores")
USER = 1000
ROUNDING = 1e-6
"""By how much float32 may move a probability with the number of images that are predicted together."""
SMALL = {"preset": "quick", "weights": "none", "size": 32, "folds": 2, "epochs": 1, "data": "/data/chest_xray"}
SMALL_IN_0_1 = {"weights": "none", "trainable": "all", "size": 32, "folds": 2, "epochs": 1}
SMALL_IN_0_1 |= {"data": "/srv/cxr/inbox/images", "experiments": "/srv/cxr/experiments"}
"""By deployments of 0.1 runs write into a folder that is gone with the run, unless they are told where to."""


@dataclass(frozen=True)
class Deployment:
    """The services of one version of the project, with the folder that their containers share."""

    engine: str
    compose_command: Sequence[str]
    project: Path
    data: Path

    @cached_property
    def services(self) -> dict[str, dict[str, Any]]:
        return yaml.safe_load((self.project / "deployments/compose.yaml").read_text())["services"]

    def compose(self, *words: str) -> None:
        environment = os.environ | SECRETS | {"CXR_DATA": str(self.data)}
        file = self.project / "deployments/compose.yaml"
        run(
            [*self.compose_command, "--project-name", NAME, "--profile", "dicom", "--file", str(file), *words],
            env=environment,
        )

    def container(self, service: str) -> str:
        labels = [f"--filter=label=com.docker.compose.{key}" for key in (f"project={NAME}", f"service={service}")]
        return run([self.engine, "ps", "--all", "--quiet", *labels]).strip()

    def execute(self, service: str, *words: str, check: bool = True, **options: Any) -> str:
        """Run a command in a service's container; return what it printed."""
        interactive = ["--interactive"] if "input" in options else []
        return run([self.engine, "exec", *interactive, self.container(service), *words], check=check, **options)

    def start(self, services: Sequence[str] = IN_ORDER) -> None:
        """Start services one after the other, each once the one before is healthy or has ended well."""
        for service in (name for name in services if name in self.services):
            begun = time.monotonic()
            self.compose("up", "--detach", "--no-deps", "--no-build", service)
            self.wait_for(service)
            print(f"    {service}: up after {time.monotonic() - begun:.0f} s", flush=True)

    def wait_for(self, service: str) -> None:
        if service == "deploy":
            code = run([self.engine, "wait", self.container(service)]).strip()
            assert code == "0", run([self.engine, "logs", self.container(service)])
        elif check := self.services[service].get("healthcheck"):
            kind, *words = check["test"]
            command = words if kind == "CMD" else ["sh", "-c", *words]
            wait_for(lambda: self.is_done(service, *command), f"{service} to be healthy")

    def is_done(self, service: str, *words: str) -> bool:
        command = [self.engine, "exec", self.container(service), *words]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def flow(self, deployment: str, *words: str, **parameters: Any) -> str:
        """Start a flow by its deployment's name, from a worker's container."""
        given = [f"--param={name}={json.dumps(value)}" for name, value in parameters.items()]
        return self.execute("worker-cpu", "prefect", "deployment", "run", deployment, *given, *words)

    def flow_runs(self) -> list[dict[str, Any]]:
        """Return all flow runs that the server knows, the oldest first."""
        auth = tuple(SECRETS["CXR_AUTH"].split(":"))
        body = {"sort": "START_TIME_ASC", "flow_runs": {"state": {"type": {"not_any_": ["SCHEDULED"]}}}}
        return httpx.post("http://127.0.0.1:4200/api/flow_runs/filter", json=body, auth=auth, timeout=30).json()

    def scores(self) -> list[dict[str, Any]]:
        parts = sorted(map(str, self.data.glob("scores/[!_.]*/*.parquet")))
        return pyarrow.dataset.dataset(parts, format="parquet").to_table().to_pylist()


def main() -> None:
    """Walk the steps; say of each how long it took."""
    options = arguments()
    with tempfile.TemporaryDirectory(prefix="cxr-containers-") as scratch:
        data = Path(scratch) / "data"
        make_folders(data)
        new = Deployment(options.engine, options.compose.split(), PROJECT, data)
        steps = [build, train, score, kill_worker, restart_server, back_up_and_restore]
        with gone_at_the_end(new):
            if options.upgrade_from:
                step(upgrade, new, options)
            for each in steps:
                step(each, new, options)
    print("every step succeeded")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.containers")
    parser.add_argument("--engine", default="docker")
    parser.add_argument("--compose", default="docker compose")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--build", action="append", default=[], help="a further word for `build`; repeatable")
    parser.add_argument("--built", action="store_true", help="build nothing")
    parser.add_argument("--upgrade-from", help="commit whose database and run the trial begins with")
    return parser.parse_args()


def step(
    function: Callable[[Deployment, argparse.Namespace], None], new: Deployment, options: argparse.Namespace
) -> None:
    begun = time.monotonic()
    print(function.__doc__ or "", flush=True)
    function(new, options)
    print(f"    done in {time.monotonic() - begun:.0f} s", flush=True)


def build(new: Deployment, options: argparse.Namespace) -> None:
    """Build the image"""
    device = [f"--build-arg=DEVICE={options.device}", f"--build-arg=REVISION={git('rev-parse', 'HEAD')}"]
    if not options.built:
        build_image(new, [*options.build, *device, f"--tag=cxr:{options.device}"])
    if options.device == "gpu":
        run([new.engine, "tag", "cxr:gpu", "cxr:cpu"])
    size = int(run([new.engine, "image", "inspect", "--format", "{{.Size}}", "cxr:cpu"]))
    print(f"    {size / 1e9:.2f} GB")


def upgrade(new: Deployment, options: argparse.Namespace) -> None:
    """Train a run with an earlier version, whose database and folders the next steps use"""
    old = Deployment(new.engine, new.compose_command, new.data.parent / "old", new.data)
    old.project.mkdir()
    archive = subprocess.run(["git", "archive", options.upgrade_from], cwd=PROJECT, capture_output=True, check=True)
    run(["tar", "--extract", "--directory", str(old.project)], input=archive.stdout, text=False)
    if not options.built:
        build_image(old, [*options.build, "--tag=cxr"])
    old.start(("database", "server", "deploy", "worker-cpu"))
    draw(new.data / "inbox" / "images")
    old.flow("train-cv/default", "--watch", run_id="before", **SMALL_IN_0_1)
    assert (new.data / "experiments/before/report.html").exists(), old.flow_runs()
    old.compose("down")
    shutil.rmtree(new.data / "inbox" / "images")


def train(new: Deployment, options: argparse.Namespace) -> None:
    """Start all services in their order; train a run, package it, promote it"""
    draw(new.data / "data" / "chest_xray")
    new.start()
    known = new.flow_runs()
    new.flow("train-cv/default", "--watch", run_id="trial", **SMALL)
    assert len(new.flow_runs()) > len(known)
    new.execute("worker-cpu", "cxr", "package", "trial", "--name", "pneumonia", "--promote")
    if options.upgrade_from:
        assert len(known) == 1, f"the earlier version's flow run: {known}"
        refusal = new.execute("worker-cpu", "sh", "-c", "cxr report before 2>&1", check=False)
        assert "this cxr reads format" in refusal, refusal


def score(new: Deployment, _: argparse.Namespace) -> None:
    """Score an inbox by the nightly deployment; ask the endpoint for the same images"""
    images = sorted((new.data / "data/chest_xray").rglob("*.jpeg"))[:20]
    batch = new.data / "inbox/monday"
    batch.mkdir()
    for image in images:
        shutil.copy2(image, batch)
    new.flow("score-batch/nightly", "--watch", settle=0, force=True)
    rows = new.scores()
    assert len(rows) == len(images), f"{len(rows)} rows for {len(images)} images"
    first = rows[0]
    wait_for(lambda: ask_endpoint(batch / first["path"]), "the endpoint to have the model")
    served = ask_endpoint(batch / first["path"])["images"][0]["probability_PNEUMONIA"]
    assert abs(served - first["probability_PNEUMONIA"]) < ROUNDING, (served, first)
    print(f"    {len(rows)} rows; the endpoint's probability is that of the row: {served:.6f}")


def kill_worker(new: Deployment, _: argparse.Namespace) -> None:
    """Kill the worker while it trains; start it, and resume the run"""
    new.flow("train-cv/default", run_id="killed", **SMALL | {"epochs": 12})
    checkpoints = new.data / "experiments/killed/folds"
    wait_for(lambda: any(checkpoints.glob("*/checkpoint.pt")), "a checkpoint")
    run([new.engine, "kill", "--signal", "KILL", new.container("worker-cpu")])
    assert not all((checkpoints / f"fold={fold}" / "complete.json").exists() for fold in range(2))
    new.start(["worker-cpu"])
    wait_for(lambda: new.flow_runs()[-1]["state"]["type"] == "CRASHED", "the killed flow run to be marked as crashed")
    new.flow("train-cv/default", "--watch", run_id="killed", **SMALL | {"epochs": 12})
    assert (new.data / "experiments/killed/report.html").exists()


def restart_server(new: Deployment, _: argparse.Namespace) -> None:
    """Restart the server while a run trains"""
    new.flow("train-cv/default", run_id="restarted", **SMALL | {"epochs": 8})
    wait_for((new.data / "experiments/restarted/config.json").exists, "the run to begin")
    run([new.engine, "restart", new.container("server")])
    new.wait_for("server")
    wait_for(lambda: new.flow_runs()[-1]["state"]["type"] == "COMPLETED", "the run to end")


def back_up_and_restore(new: Deployment, _: argparse.Namespace) -> None:
    """Back up, remove every container, volume and folder, and restore"""
    before = (len(new.flow_runs()), new.scores())
    new.compose("stop", *(name for name in IN_ORDER if name not in ("database", "redis", "deploy")))
    dump = new.execute("database", "pg_dump", "--username=prefect", "prefect")
    saved = new.data.parent / "saved"
    run(["cp", "--archive", str(new.data), str(saved)])
    new.compose("down", "--volumes")
    shutil.rmtree(new.data)

    run(["cp", "--archive", str(saved), str(new.data)])
    new.start(["database"])
    new.execute("database", "psql", "--quiet", "--set=ON_ERROR_STOP=1", "--username=prefect", "prefect", input=dump)
    new.start([name for name in IN_ORDER if name != "database"])
    assert (len(new.flow_runs()), new.scores()) == before
    new.flow("score-batch/nightly", "--watch", settle=0, force=True)
    assert new.scores() == before[1], "images that had been scored were scored again"
    print(f"    {before[0]} flow runs and {len(before[1])} rows are there again; nothing was scored twice")


def make_folders(data: Path) -> None:
    for name in FOLDERS:
        (data / name).mkdir(parents=True)
        os.chown(data / name, USER, USER)


def draw(folder: Path) -> None:
    run([sys.executable, "-m", "cxr", "sample", str(folder), "--images", "80"])


def build_image(deployment: Deployment, words: Sequence[str]) -> None:
    run([deployment.engine, "build", "--file=deployments/Dockerfile", *words, "."], cwd=deployment.project)


@contextmanager
def gone_at_the_end(deployment: Deployment) -> Iterator[None]:
    """Remove containers and volumes at the end; if a step failed, first show what the services logged last."""
    try:
        yield
    except AssertionError:
        for container in filter(None, map(deployment.container, IN_ORDER)):
            subprocess.run([deployment.engine, "logs", "--tail=25", "--names", container], check=False)
        raise
    finally:
        deployment.compose("down", "--volumes")


def wait_for(is_there: Callable[[], object], what: str, timeout_s: float = 900) -> None:
    """Wait until a condition holds; a server that does not answer yet is waited for, too."""
    deadline = time.monotonic() + timeout_s
    while True:
        with suppress(httpx.TransportError):
            if is_there():
                return
        assert time.monotonic() < deadline, f"waited {timeout_s} s for {what}"
        time.sleep(1)


def ask_endpoint(image: Path) -> dict[str, Any]:
    """Return what the endpoint predicts; an empty document while it has no model."""
    headers = {"Content-Type": "image/jpeg"}
    answer = httpx.post("http://127.0.0.1:8600/predict", content=image.read_bytes(), headers=headers, timeout=60)
    return {} if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE else answer.raise_for_status().json()


def git(*words: str) -> str:
    return run(["git", *words], cwd=PROJECT).strip()


def run(command: Sequence[str], *, check: bool = True, **options: Any) -> str:
    """Run a command and return its output; raise AssertionError with all that it printed if it fails."""
    ended = subprocess.run(command, capture_output=True, check=False, **{"text": True} | options)
    assert not check or ended.returncode == 0, (
        f"{' '.join(command)}\nended with {ended.returncode}:\n{ended.stderr}{ended.stdout}"
    )
    return ended.stdout


if __name__ == "__main__":
    main()
