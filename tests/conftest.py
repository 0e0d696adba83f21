"""Images and runs that several tests share: drawn, seeded, made once."""

import base64
import http.server
import importlib.util
import io
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
import torchvision
import yaml
from PIL import Image, ImageOps
from prefect.client.orchestration import SyncPrefectClient, get_client

from cxr.config import Execution, TrainConfig
from cxr.dataset.examination import examine
from cxr.evaluation.tables import evaluate
from cxr.export.build import make_package
from cxr.images.synthetic import draw_images, draw_inbox
from cxr.serving import registry
from cxr.storage.model_folder import ModelFolder
from cxr.storage.run_folder import RunFolder
from cxr.training import run
from cxr.training.run import Run
from cxr.training.trainer import train_fold
from deployments.server import GIVE_UP, TELL, set_automations_up
from deployments.services import talking_to_server
from flows.cli import app as cli

BIN = Path(sys.executable).parent
PROJECT = Path(__file__).parents[1]
TABLES = ("metrics/predictions.parquet", "metrics/metrics.parquet", "metrics/summary.parquet", "folds.parquet")
PARAMETERS = {
    "weights": "none",
    "trainable": "all",
    "size": 32,
    "epochs": 4,
    "folds": 2,
    "batch_size": 16,
    "devices": "cpu",
}

SECRET = "a-word-that-nobody-writes"  # noqa: S105 the tests' own
SECRETS = {
    "PREFECT_API_AUTH_STRING": f"cxr:{SECRET}",
    "PREFECT_SERVER_API_AUTH_STRING": f"cxr:{SECRET}",
    "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"postgresql+asyncpg://cxr:{SECRET}@127.0.0.1/prefect",
    "CXR_DATABASE_PASSWORD": SECRET,
    "AWS_ACCESS_KEY_ID": SECRET,
    "AWS_SECRET_ACCESS_KEY": SECRET,
}

# A shell that starts the tests in the background lets them ignore SIGINT, and what they start would inherit that:
# Prefect's worker, which turns SIGTERM into SIGINT, would never end.
signal.signal(signal.SIGINT, signal.default_int_handler)


LONG = (
    "test_train_cv",
    "test_cross_validation",
    "test_scoring",
    "test_object_store",
    "test_services",
    "test_workers",
    "test_ray_cluster",
    "test_server",
    "test_postgresql",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take minutes, so that the processes that share the files end together."""
    place = {stem: k for k, stem in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONG)))


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eighty drawn images in the Kaggle layout, with three copies and a truncated file among them."""
    out = tmp_path_factory.mktemp("sample") / "chest_xray"
    draw_images(out, n_images=80, seed=1)
    return out


@pytest.fixture(scope="session")
def weights_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A ResNet-50 state dict made on the spot, as torchvision saves it."""
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("weights") / "resnet50.pth"
    torch.save(torchvision.models.resnet50().state_dict(), file)
    return str(file)


@pytest.fixture
def image() -> Callable[..., bytes]:
    """Make a small image's bytes: image(seed=0, size=(64, 48), format="JPEG")."""

    def make(seed: int = 0, size: tuple[int, int] = (64, 48), format: str = "JPEG") -> bytes:
        pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0]), dtype=np.uint8)
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, format)
        return stream.getvalue()

    return make


@pytest.fixture
def tree(tmp_path: Path) -> Callable[[dict[str, bytes]], Path]:
    """Write files under a fresh folder: tree({"train/A/1.png": data})."""

    def write(files: dict[str, bytes]) -> Path:
        root = tmp_path / "images"
        for name, data in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(data)
        return root

    return write


@contextmanager
def lock_holder(lock: Path, what: str) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that holds a lock until it is killed or the block ends."""
    words = f"with files.locked(files.located(Path({str(lock)!r})), {what!r}): print(); input()"
    code = f"from pathlib import Path; from cxr.storage import files\n{words}"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def begin(tmp_path: Path, sample: Path) -> Callable[..., Run]:
    """Begin a small run on the drawn images: begin("name", epochs=1, …)."""

    def begin_run(run_id: str = "run", devices: str = "cpu", **fields: object) -> Run:
        small = {"data": str(sample), "weights": "none", "trainable": "all", "size": 32, "folds": 2, "epochs": 1}
        config = TrainConfig(**(small | {"batch_size": 16} | fields))
        folder = RunFolder.named(tmp_path / "experiments", run_id)
        examine(config, folder, cache=tmp_path / "cache", size=config.size)
        return run.begin_run(config, folder, Execution(cache=tmp_path / "cache", devices=devices))

    return begin_run


@pytest.fixture(scope="session")
def home(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model `tiny`, champion version 1, made of a run on the drawn images."""
    home = tmp_path_factory.mktemp("home")
    config = TrainConfig(data=str(sample), weights="none", trainable="all", size=64, folds=2, epochs=2, batch_size=8)
    folder = RunFolder.named(home / "experiments", "run")
    examine(config, folder, cache=home / "cache", size=config.size)
    begun = run.begin_run(config, folder, Execution(cache=home / "cache", devices="cpu"))
    for fold in range(config.folds):
        train_fold(begun, fold, "cpu")
    evaluate(begun)
    model = ModelFolder.named(home / "models", "tiny")
    registry.promote(model, make_package(begun, model).version)
    return home


@pytest.fixture(scope="session")
def scored(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scores of six drawn images and six files that are none, as `cxr score` wrote them; `inbox` lies beside."""
    place = tmp_path_factory.mktemp("scored")
    draw_inbox(place / "inbox", n_images=6, seed=2)
    places = [f"--models={home / 'models'}", f"--cache={home / 'cache'}", f"--out={place / 'scores'}"]
    with pytest.raises(SystemExit) as ended:
        cli(["score", str(place / "inbox"), "--name=tiny", "--settle=0", "--force", *places])
    assert ended.value.code == 0
    return place / "scores"


class PrefectServer:
    """A Prefect server of the tests' own: `prefect server start`, with its history in a folder of its own."""

    def __init__(self, home: Path, environment: Mapping[str, str] = {}) -> None:
        self.port = free_port()
        self.log = home / "server.log"
        self.environment = os.environ | environment
        self.environment |= {"PREFECT_HOME": str(home), "PREFECT_API_URL": f"http://127.0.0.1:{self.port}/api"}
        self.start()

    def start(self) -> None:
        """Start it, for the first time or again with the history that it had."""
        command = [BIN / "prefect", "server", "start", "--port", str(self.port)]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                command, cwd=PROJECT, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )
        try:
            wait_for(lambda: is_healthy(self.environment["PREFECT_API_URL"] + "/health"), "the Prefect server")
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        """End it, and what it has started, as a power cut would."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """Ask it to end."""
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(timeout=60)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A Prefect server of the tests' own; yields the environment that its clients need."""
    server = PrefectServer(tmp_path_factory.mktemp("prefect"))
    try:
        yield server.environment
    finally:
        server.stop()


@contextmanager
def worker(pool: str, name: str, folder: Path, environment: Mapping[str, str]) -> Iterator[psutil.Process]:
    """A worker that takes one run at a time; its log is `folder`/`name`.log."""
    command = [BIN / "prefect", "worker", "start", "--pool", pool, "--name", name, "--limit", "1"]
    environment = {**environment, "PREFECT_WORKER_QUERY_SECONDS": "1"}
    with (folder / f"{name}.log").open("w") as log:
        process = psutil.Popen(command, cwd=PROJECT, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        yield process
    finally:
        kill_with_family(process)


def kill_with_family(process: psutil.Process) -> None:
    """As when a machine goes down: a worker, the flow that it runs, and the fold's process."""
    if process.is_running():
        family = [process, *process.children(recursive=True)]
        for one in family:
            one.kill()
        psutil.wait_procs(family, timeout=20)


def draw_negatives(images: Path, batch: Path) -> None:
    """Make a batch that is held: the images of another one, black for white."""
    batch.mkdir()
    for image in images.glob("image-*.jpeg"):
        ImageOps.invert(Image.open(image).convert("L")).save(batch / image.name)


def quick_deployment(parameters: dict[str, object], schedule: dict[str, object], folder: Path) -> Path:
    """The project's own nightly deployment, but with a schedule and parameters of the test's.

    Runs should not meet: where one is cancelled for another, SQLite is locked for seconds and events are lost.
    """
    described = yaml.safe_load((PROJECT / "prefect.yaml").read_text())
    (nightly,) = [one for one in described["deployments"] if one["name"] == "nightly"]
    nightly |= {"name": "quick", "schedules": [schedule], "parameters": parameters}
    described |= {"deployments": [nightly]}
    described["pull"] = [{"prefect.deployments.steps.set_working_directory": {"directory": str(PROJECT)}}]
    (folder / "prefect.yaml").write_text(yaml.safe_dump(described))
    return folder / "prefect.yaml"


@contextmanager
def webhook() -> Iterator[tuple[str, list[str]]]:
    """A receiver on the loopback address: its address, and the bodies that it was sent."""
    told: list[str] = []

    class Receiver(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(self.rfile.read(int(self.headers["content-length"])).decode())
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *values: object) -> None:
            """Keep the tests' output clean."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as receiver:
        threading.Thread(target=receiver.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{receiver.server_address[1]}/hook", told
        receiver.shutdown()


@contextmanager
def automations(silent_for_s: int, notify: str, environment: Mapping[str, str]) -> Iterator[SyncPrefectClient]:
    """Have a server mark silent runs and tell a webhook of bad ends until the block ends; yields a client of it."""
    with talking_to_server(environment), get_client(sync_client=True) as client:
        set_automations_up(silent_for_s, notify)
        try:
            yield client
        finally:
            for name in (GIVE_UP, TELL):
                for automation in client.read_automations_by_name(name):
                    client.delete_automation(automation.id)


def train_command(
    sample: Path, folder: Path, program: Sequence[str] = (str(BIN / "cxr"),), experiments: str | None = None
) -> list[str]:
    """A small training on the drawn images, as a user types it; everything but `experiments` goes into `folder`."""
    options = [f"--{name.replace('_', '-')}={value}" for name, value in PARAMETERS.items()]
    places = [f"--experiments={experiments or folder / 'experiments'}", f"--cache={folder / 'cache'}", "--run-id=run"]
    return [*program, "train", f"--data={sample}", *options, *places]


def run_to_the_end(command: list[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=400, check=False)


@pytest.fixture(scope="session")
def undisturbed(sample: Path, server: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of `cxr train` that nobody has killed, and what it said in `stdout` and `stderr`."""
    folder = tmp_path_factory.mktemp("undisturbed")
    result = run_to_the_end(train_command(sample, folder), server | SECRETS)
    assert result.returncode == 0, result.stderr
    (folder / "stdout").write_text(result.stdout)
    (folder / "stderr").write_text(result.stderr)
    return folder


def assert_no_secret(folder: Path) -> None:
    """No file under `folder` has a word of SECRETS in it, plain or as HTTP sends a password."""
    forms = [SECRET.encode(), base64.b64encode(f"cxr:{SECRET}".encode())]
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    assert [path for path in files if any(form in path.read_bytes() for form in forms)] == []


def start_and_wait_for_epoch_2(
    fold: int, command: list[str], folder: Path, environment: Mapping[str, str]
) -> tuple[subprocess.Popen[bytes], int]:
    """Start a training; return its process and the process id of the fold once it is in its third epoch."""
    process = start_and_wait_for(f"fold {fold}: epoch 2 of 4", command, folder, environment)
    holder = folder / "experiments" / "run" / "folds" / f"fold={fold}" / ".lock.json"
    return process, json.loads(holder.read_text())["pid"]


def start_and_wait_for(
    line: str, command: list[str], folder: Path, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Start a process that writes to `folder`/log; return it once it has said `line`."""
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    wait_for(lambda: line in (folder / "log").read_text() or process.poll() is not None, line)
    assert process.poll() is None, (folder / "log").read_text()
    return process


def is_alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


def assert_same_tables(left: Path, right: Path) -> None:
    for name in TABLES:
        one, other = (pd.read_parquet(folder / "experiments" / "run" / name) for folder in (left, right))
        pd.testing.assert_frame_equal(one, other, check_exact=True)


@pytest.fixture(scope="session")
def without_flows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of processes, and of what they start, that find neither Prefect nor Great Expectations."""
    folder = tmp_path_factory.mktemp("absent")
    (folder / "sitecustomize.py").write_text(
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in ('prefect', 'great_expectations'):\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Absent())\n"
    )
    paths = [str(folder), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    imported = subprocess.run(
        [sys.executable, "-c", "import prefect"], env=environment, capture_output=True, check=False
    )
    assert b"No module named 'prefect'" in imported.stderr
    return environment


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 200 KiB."""
    with disk_of("200k", tmp_path / "disk") as disk:
        yield disk


@contextmanager
def disk_of(size: str, folder: Path) -> Iterator[Path]:
    """A disk of its own at `folder`, of a size such as 200k; `resize_disk` makes it larger."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a small tmpfs needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=False)


def resize_disk(folder: Path, size: str) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", folder], check=True)


class RayNode:
    """A node of a Ray cluster on this machine: `ray start`, and all that it has started."""

    def __init__(self, log: Path, *words: str) -> None:
        always = ["--num-cpus=1", "--num-gpus=0", "--object-store-memory=80000000", "--dashboard-agent-listen-port=0"]
        environment = os.environ | {"RAY_USAGE_STATS_ENABLED": "0"}
        with log.open("w") as stream:
            self.process = subprocess.Popen(
                [BIN / "ray", "start", "--block", *always, *words],
                cwd=log.parent,
                env=environment,
                stdout=stream,
                stderr=stream,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        wait_for(lambda: "Ray runtime started" in log.read_text() or self.process.poll() is not None, "a Ray node")
        assert self.process.poll() is None, log.read_text()

    def kill(self) -> None:
        """End the node as a power cut would."""
        if self.process.poll() is None:
            for one in [*psutil.Process(self.process.pid).children(recursive=True), self.process]:
                one.kill()
            self.process.wait()


@contextmanager
def ray_nodes(home: Path, n_nodes: int) -> Iterator[tuple[str, list[RayNode]]]:
    """Nodes of one CPU each, with this process's environment; yields the cluster's address and them, the head first."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("Ray is not installed: it is the extra [ray]")
    address = f"127.0.0.1:{free_port()}"
    sockets = tempfile.TemporaryDirectory(prefix="cxr-ray-", ignore_cleanup_errors=True)  # longer paths are refused
    nodes = []
    try:
        head = f"--port={address.rpartition(':')[2]}", f"--ray-client-server-port={free_port()}"
        nodes.append(
            RayNode(
                home / "node-0.log",
                "--head",
                "--include-dashboard=false",
                *head,
                "--node-ip-address=127.0.0.1",
                f"--temp-dir={sockets.name}",
            )
        )
        for k in range(1, n_nodes):  # one after the other: started together they may choose the same ports
            nodes.append(RayNode(home / f"node-{k}.log", f"--address={address}", f"--node-ip-address=127.0.0.{k + 1}"))
        yield address, nodes
    finally:
        for node in reversed(nodes):
            node.kill()
        sockets.cleanup()


@pytest.fixture(scope="session")
def ray_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, list[RayNode]]]:
    """Three nodes; see `ray_nodes`."""
    with ray_nodes(tmp_path_factory.mktemp("ray"), 3) as cluster:
        yield cluster


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def is_healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 loopback
            return answer.status == 200
    except OSError:
        return False


def wait_for(is_there: Callable[[], object], what: str, timeout_s: float = 240) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_there():
        assert time.monotonic() < deadline, f"waited {timeout_s} s in vain for {what}"
        time.sleep(0.05)
