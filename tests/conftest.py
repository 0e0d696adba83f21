"""Images and runs that several tests share: drawn, seeded, made once."""

import gc
import io
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from cxr.config import Execution
from cxr.dataset.examination import examine
from cxr.dicom_results.results import write_and_send
from cxr.export.build import make_package
from cxr.feedback.feedback import give_feedback
from cxr.images.synthetic import draw_images, draw_inbox
from cxr.network.devices import keep_freed_memory
from cxr.retraining.outcome import conclude
from cxr.retraining.plan import plan_retraining
from cxr.serving import registry
from cxr.storage.model_folder import ModelFolder
from cxr.storage.run_folder import RunFolder
from cxr.storage.scores_folder import ScoresFolder
from cxr.training.beginning import begin_run
from cxr.training.run import Run, load_run
from flows.cli import app as cli
from tests.support.dicom import draw_study
from tests.support.disks import disk_of
from tests.support.findings import hide_subtypes
from tests.support.integers import bright_config, draw_bright_and_dark
from tests.support.labels import from_table
from tests.support.processes import run_on_a_terminal
from tests.support.ray import RayNode, ray_nodes
from tests.support.retraining import Site, copy_site, label_images, make_site, score_drawn
from tests.support.runs import SMALL, Finished, finish_run, is_examined_alike, small_config, train_command
from tests.support.scores import draw_class_scores, write_labels
from tests.support.scoring import score_to_dicom
from tests.support.secrets import SECRETS
from tests.support.servers import PrefectServer, make_database
from tests.support.shared import NewFolder, make_once

# Tests that a shell starts in the background ignore SIGINT, and so would their children: Prefect's worker, which turns
# SIGTERM into SIGINT, would never end.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Ray asks for tokens as soon as it finds one in the home folder, where it may have put it amid a test.
os.environ["RAY_AUTH_MODE"] = "disabled"

# Tables are compared to the bit, which depends on the number of threads, and this on how many folds share the cores.
os.environ["OMP_NUM_THREADS"] = "1"

# As in a fold's process: a hundred small trainings would have the same pages zeroed again in each step.
keep_freed_memory()

# Collecting imports all modules and makes a million objects that stay: Python would look through them again and again.
gc.disable()


LONG = (
    "flows/test_runs_in_a_bucket",
    "flows/test_train_cv",
    "storage/test_object_store",
    "test_pipeline",
    "deployments/test_server",
    "tasks/test_ray_cluster",
    "tasks/test_workers",
    "deployments/test_postgresql",
    "cli/test_damage",
    "benchmarks/test_gpu_trial",
    "deployments/test_services",
    "docs/test_tables",
    "serving/scoring/test_scoring_runs",
    "export/int8/test_export",
    "dataset/listing/test_labelled",
    "flows/test_validate_dataset",
    "app/test_app_browser",
    "report/run/test_report",
    "training/test_features",
    "test_several_findings",
    "test_foreign_names",
    "data_checks/test_gate",
    "export/test_onnx_export",
    "test_installed_wheel",
    "serving/test_registry",
    "test_wheel",
    "training/fold/test_loop",
    "training/test_supervision",
    "test_library",
)
"""Test modules that take about a minute or more, the longest first; `test_conftest` checks that each is there."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the modules that take minutes, so that the processes that share the modules end together."""
    place = {Path(__file__).parent / f"{name}.py": k for k, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path, len(LONG)))


def pytest_collection_finish() -> None:
    """Look for garbage again, but not among what is there before the first test."""
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def main_module() -> Iterator[None]:
    """Streamlit's AppTest puts a view in place of `__main__`, which the child processes of later tests would run."""
    module = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = module


@pytest.fixture(scope="module")
def new_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NewFolder]:
    """Make an empty folder for a module's tests: new_folder("models"). Gigabytes of weights would pile up otherwise."""
    made: list[Path] = []

    def make(name: str) -> Path:
        made.append(tmp_path_factory.mktemp(name))
        return made[-1]

    yield make
    for folder in made:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eighty drawn images in the Kaggle layout, with three copies and a truncated file among them."""
    made = make_once(tmp_path_factory, "sample", lambda place: draw_images(place / "chest_xray", n_images=80, seed=1))
    return made / "chest_xray"


@pytest.fixture(scope="session")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty drawn images of another site's patients, as `sample`. Do not write into it."""
    made = make_once(tmp_path_factory, "elsewhere", lambda place: draw_images(place / "images", n_images=40, seed=5))
    return made / "images"


@pytest.fixture(scope="session")
def weights_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A ResNet-50 state dict made on the spot, as torchvision saves it."""

    def make(place: Path) -> None:
        torch.manual_seed(0)
        torch.save(torchvision.models.resnet50().state_dict(), place / "resnet50.pth")

    return str(make_once(tmp_path_factory, "weights", make) / "resnet50.pth")


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


@pytest.fixture(scope="session")
def examined(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `run`, in which the drawn images were examined for a small run, and the `cache` of that."""

    def make(place: Path) -> None:
        examine(small_config(sample), RunFolder.named(place, "run"), cache=place / "cache", size=SMALL["size"])

    return make_once(tmp_path_factory, "examined", make)


@pytest.fixture
def begin(tmp_path: Path, sample: Path, examined: Path) -> Callable[..., Run]:
    """Begin a small run on the drawn images: begin("name", epochs=1, …)."""

    def begin_small_run(run_id: str = "run", devices: str = "cpu", **fields: object) -> Run:
        config = small_config(sample, **fields)
        folder = RunFolder.named(tmp_path / "experiments", run_id)
        cache = tmp_path / "cache"
        if is_examined_alike(config, small_config(sample)) and not folder.path.exists():
            shutil.copytree(examined / "run", folder.path)
            shutil.copytree(examined / "cache", cache, dirs_exist_ok=True)
        else:
            examine(config, folder, cache=cache, size=config.size)
        return begin_run(config, folder, Execution(cache=cache, devices=devices))

    return begin_small_run


@pytest.fixture(scope="session")
def home(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model `tiny`, champion version 1, made of a run on the drawn images."""

    def make(place: Path) -> None:
        begun = finish_run(place, "run", small_config(sample, size=64, epochs=2, batch_size=8))
        model = ModelFolder.named(place / "models", "tiny")
        registry.promote(model, make_package(begun, model).version)

    made = make_once(tmp_path_factory, "home", make)
    return Path(shutil.copytree(made, tmp_path_factory.mktemp("home"), dirs_exist_ok=True))


@pytest.fixture(scope="session")
def scored(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scores of six drawn images and six unusable files, written by `cxr score`; `inbox` lies beside them."""
    place = tmp_path_factory.mktemp("scored")
    draw_inbox(place / "inbox", n_images=6, seed=2)
    places = [f"--models={home / 'models'}", f"--cache={home / 'cache'}", f"--out={place / 'scores'}"]
    with pytest.raises(SystemExit) as ended:
        cli(["score", str(place / "inbox"), "--name=tiny", "--settle=0", "--force", *places])
    assert ended.value.code == 0
    return place / "scores"


@pytest.fixture(scope="session")
def dicom_results(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The DICOM results of two drawn radiographs of a patient; `inbox` and `scores` lie beside them.

    `log` has what was logged. Do not write into it.
    """
    place = tmp_path_factory.mktemp("dicom_results")
    draw_study(place / "inbox" / "ward")
    scoring_run = score_to_dicom(home, place)
    lines = io.StringIO()
    logger, handler = logging.getLogger("cxr"), logging.StreamHandler(lines)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    write_and_send(scoring_run)
    logger.setLevel(level)
    logger.removeHandler(handler)
    (place / "log").write_text(lines.getvalue())
    return place / "results"


@pytest.fixture(scope="session")
def finished(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Train a small run on the drawn images to its end, once for all tests: finished(trainable="head", …).

    Do not write into it.
    """

    def finished_run(**fields: object) -> Run:
        config = small_config(sample, **fields)
        name = f"{config.trainable}-{config.label_from}-{config.holdout}-{config.leave_out}-{config.test_views}"
        place = make_once(tmp_path_factory, name, lambda place: finish_run(place, name, config))
        return load_run(RunFolder.named(place / "experiments", name))

    return finished_run


@pytest.fixture(scope="session")
def head(finished: Finished, weights_file: str) -> Run:
    """A finished run with a frozen trunk."""
    return finished(weights=weights_file, trainable="head")


@pytest.fixture(scope="session")
def three(finished: Finished, weights_file: str) -> Run:
    """A finished run with three classes."""
    return finished(weights=weights_file, trainable="head", label_from="subtype")


@pytest.fixture(scope="session")
def labelled_three(three: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`models` and `scores` of a model `three` of three classes, and `labels.csv`, which was entered.

    It ranks its last class at random. Do not write into it.
    """

    def make(place: Path) -> None:
        model = ModelFolder.named(place / "models", "three")
        registry.promote(model, make_package(three, model).version)
        champion = registry.load_champion(place / "models", "three")
        shift = dict.fromkeys(champion.classes, 4.0) | {champion.classes[-1]: 0.0}
        labels = draw_class_scores(place / "scores", champion.classes, shift)
        file = write_labels(place / "labels.csv", {f"monday/{k}.png": label for k, label in enumerate(labels)})
        scores = ScoresFolder.at(place / "scores")
        give_feedback(scores, model, champion, from_table(file), by="ada", cache=place / "cache")

    return make_once(tmp_path_factory, "labelled-three", make)


@pytest.fixture(scope="session")
def site(head: Run, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A site whose model `tiny` has scored 90 drawn images, of which all are labelled. Do not write into it."""

    def make(place: Path) -> None:
        made = make_site(place, head)
        label_images(made, score_drawn(made))

    return Site(make_once(tmp_path_factory, "site", make))


@pytest.fixture(scope="session")
def retrained(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """That site with the next version of the model, which was trained on half of these images too."""

    def make(place: Path) -> None:
        copy = copy_site(site, place)
        plan = plan_retraining(copy.config, copy.location)
        finish_run(place, plan.folder.run_id, plan.config)
        conclude(plan, copy.config)

    return Site(make_once(tmp_path_factory, "retrained", make))


@pytest.fixture(scope="session")
def several(sample: Path, weights_file: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run with a frozen trunk and two findings, bacteria and virus, which are unknown in some images."""

    def make(place: Path) -> None:
        images = hide_subtypes(sample, place / "images")
        findings = {"task": "multi", "label_from": "subtype"}
        config = small_config(images, weights=weights_file, trainable="head", **findings)
        finish_run(place, "several", config)

    made = make_once(tmp_path_factory, "several", make)
    return load_run(RunFolder.named(made / "experiments", "several"))


@pytest.fixture(scope="session")
def in_integers(weights_file: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run and its model `bright`, whose version 1 scores in 8-bit integers.

    Do not write into it.
    """

    def make(place: Path) -> None:
        draw_bright_and_dark(place / "images", seed=0)
        run = finish_run(place, "run", bright_config(place / "images", weights_file))
        make_package(run, ModelFolder.named(place / "models", "bright"), int8=True)

    return make_once(tmp_path_factory, "in-integers", make)


@pytest.fixture(scope="session")
def server_home(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """Make a home for a Prefect server: server_home(folder), with an empty database, whose tables take seconds."""
    made = make_once(tmp_path_factory, "prefect", make_database)

    def make(folder: Path) -> Path:
        return Path(shutil.copytree(made, folder, dirs_exist_ok=True))

    return make


@pytest.fixture(scope="module")
def server(server_home: Callable[[Path], Path], new_folder: NewFolder) -> Iterator[dict[str, str]]:
    """Run a Prefect server for a module's tests, as it is busy even when idle; yields what its clients need."""
    server = PrefectServer(server_home(new_folder("prefect")))
    try:
        yield server.environment
    finally:
        server.stop()


@pytest.fixture(scope="module")
def s3_log(new_folder: NewFolder) -> Path:
    """Where the S3 server writes a line for each request."""
    return new_folder("s3") / "log"


@pytest.fixture(scope="module")
def s3(s3_log: Path) -> Iterator[Any]:
    """A client of an S3 server with the bucket `bucket`, which this process and those that it starts use."""
    from tests.support.s3 import s3_server  # it imports boto3

    with s3_server(s3_log) as client:
        yield client


@pytest.fixture(scope="session")
def undisturbed(sample: Path, server_home: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of `cxr train` that was not disturbed; its two folds were trained at the same time.

    Its output is in `stdout`, what it showed on a terminal in `stderr`, and its Prefect server's home, with the
    database, in `prefect`.
    """

    def make(folder: Path) -> None:
        server = PrefectServer(server_home(folder / "prefect"))
        try:
            result = run_on_a_terminal(train_command(sample, folder, devices="cpu,cpu"), server.environment | SECRETS)
        finally:
            server.stop()
        assert result.returncode == 0, result.stderr
        (folder / "stdout").write_text(result.stdout)
        (folder / "stderr").write_text(result.stderr)

    return make_once(tmp_path_factory, "undisturbed", make)


@pytest.fixture(scope="session")
def without_flows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which processes and their children find neither Prefect nor Great Expectations."""
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


@pytest.fixture(scope="session")
def ray_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, list[RayNode]]]:
    """Three nodes; see `ray_nodes`."""
    with ray_nodes(tmp_path_factory.mktemp("ray"), 3) as cluster:
        yield cluster
