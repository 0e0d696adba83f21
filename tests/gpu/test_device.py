"""Training and scoring on a GPU, against the CPU: `pytest -m gpu --noconftest tests/gpu`.

They need nothing but the core, and no conftest: a machine with a GPU may lack Prefect. CXR_TRIAL_DEVICE=cpu runs them
on a CPU, but for what only a GPU has.
"""

import os
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from cxr.config import Arithmetic, Compile, Execution, TrainConfig
from cxr.dataset.examination import examine
from cxr.export.build import make_package
from cxr.images.synthetic import draw_images
from cxr.network.devices import resolve_devices
from cxr.network.heat_map import heat_maps
from cxr.network.resnet import predict_logits
from cxr.pipeline import cross_validate
from cxr.serving.ensemble import Ensemble
from cxr.serving.networks import PackagedNetworks
from cxr.serving.package import load_package
from cxr.storage import verified
from cxr.storage.model_folder import ModelFolder
from cxr.storage.run_folder import RunFolder
from cxr.training.beginning import begin_run
from cxr.training.fold.loop import FoldTrainer
from cxr.training.predictions import load_network
from cxr.training.run import Run, load_run

DEVICE = os.environ.get("CXR_TRIAL_DEVICE", "cuda:0")
HAS_GPU = torch.cuda.is_available()
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(DEVICE != "cpu" and not HAS_GPU, reason="no GPU; CXR_TRIAL_DEVICE=cpu runs this on the CPU"),
]
needs_gpu = pytest.mark.skipif(DEVICE == "cpu", reason="only a GPU has this")
SMALL = {"preset": "quick", "weights": "none", "size": 32, "folds": 2, "epochs": 2, "batch_size": 8}
Begin = Callable[..., Run]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with drawn images, a cache and runs."""
    place = tmp_path_factory.mktemp("gpu")
    draw_images(place / "images", n_images=40, seed=1)
    return place


@pytest.fixture(scope="module")
def examined(place: Path) -> Callable[[int], Path]:
    """Examines the drawn images once for each size; returns the folder of a run that may begin."""

    @cache
    def of_size(size: int) -> Path:
        config = TrainConfig(data=str(place / "images"), **(SMALL | {"size": size}))
        folder = RunFolder.named(place / "examined", str(size))
        examine(config, folder, cache=place / "cache", size=size)
        return folder.path

    return of_size


@pytest.fixture
def begin(place: Path, examined: Callable[[int], Path], request: pytest.FixtureRequest) -> Begin:
    """Begins a run whose folds are trained here."""

    def begun(name: str = "run", **options: object) -> Run:
        config = TrainConfig(data=str(place / "images"), **(SMALL | options))
        folder = RunFolder.named(place / request.node.name.partition("[")[0], name)
        if not folder.path.exists():
            shutil.copytree(examined(config.size), folder.path)
        return begin_run(config, folder, Execution(cache=place / "cache", devices=DEVICE))

    return begun


def trained(run: Run, epochs: int) -> FoldTrainer:
    trainer = FoldTrainer(run, 0, DEVICE)
    for _ in range(epochs):
        trainer.train_epoch()
    return trainer


def weights(trainer: FoldTrainer) -> torch.Tensor:
    return torch.cat([tensor.detach().double().flatten().cpu() for tensor in trainer.model.parameters()])


def first_loss(run: Run, device: str) -> float:
    trainer = FoldTrainer(run, 0, device)
    trainer.model.train()
    return float(trainer._step(torch.arange(16).to(device)))


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-4), ("bf16", 0.1)])
def test_the_first_step_is_that_of_a_cpu_in_float32(begin: Begin, precision: str, tolerance: float) -> None:
    shape = {"size": 64, "batch_size": 16}  # batch norm over a few values magnifies what bfloat16 rounds
    expected = first_loss(begin("on-cpu", precision="fp32", **shape), "cpu")
    found = first_loss(begin(f"in-{precision}", precision=precision, **shape), DEVICE)
    assert found == pytest.approx(expected, rel=tolerance)


def test_logits_in_float32_are_those_of_a_cpu(begin: Begin) -> None:
    run = begin(precision="fp32")
    model = trained(run, 1).model
    squares = run.squares(run.images())
    on_device = predict_logits(model, squares, DEVICE)
    on_cpu = predict_logits(model.cpu(), squares, "cpu")
    assert np.linalg.norm(on_device - on_cpu) < 1e-4 * np.linalg.norm(on_cpu)


def test_deterministic_training_repeats_to_the_bit_and_so_does_a_resumed_one(begin: Begin) -> None:
    run = begin(deterministic=True, mixup=0.2, average=0.9, augment="strong")
    whole = trained(run, 2)
    assert torch.equal(weights(trained(run, 2)), weights(whole))
    folder = run.folder.fold(0)
    trained(run, 1).save(folder)
    resumed = FoldTrainer(run, 0, DEVICE)
    resumed.resume(folder)
    resumed.train_epoch()
    assert torch.equal(weights(resumed), weights(whole))


@needs_gpu
def test_a_batch_that_does_not_fit_goes_through_in_parts(begin: Begin) -> None:
    trainer = FoldTrainer(begin(size=224, batch_size=32, epochs=1), 0, DEVICE)
    trainer.model.train()
    torch.cuda.synchronize()
    total = torch.cuda.get_device_properties(DEVICE).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved(DEVICE) + 2**30) / total, DEVICE)
    try:
        loss = float(trainer._step((torch.arange(32) % trainer.n_images).to(DEVICE)))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, DEVICE)
    assert trainer.micro_batch < 32
    assert np.isfinite(loss)


@needs_gpu
def test_auto_finds_the_gpu_and_gives_it_folds_that_fit() -> None:
    config = TrainConfig(data=".", preset="quick", weights="none")
    devices = resolve_devices("auto", config)
    assert set(devices) == {f"cuda:{k}" for k in range(torch.cuda.device_count())}
    assert resolve_devices("auto", config, 2) == sorted(set(devices)) * 2


@pytest.fixture(scope="module")
def side_by_side(place: Path) -> Run:
    """A run whose two folds were trained at the same time, each in a process of its own."""
    config = TrainConfig(data=str(place / "images"), **(SMALL | {"epochs": 1}))
    where = Execution(run_id="both", experiments=place, cache=place / "cache", devices=DEVICE, folds_per_device=2)
    return load_run(cross_validate(config, where))


@pytest.fixture(scope="module")
def networks(side_by_side: Run, place: Path) -> PackagedNetworks:
    return load_package(make_package(side_by_side, ModelFolder.named(place / "models", "both"))).networks


def test_folds_side_by_side_are_evaluated(side_by_side: Run) -> None:
    predictions = verified.read_table(side_by_side.folder.predictions)
    assert sorted(predictions["image_id"]) == sorted(side_by_side.images()["image_id"])
    for fold in range(2):
        expected = predict_logits(
            load_network(side_by_side, fold),
            side_by_side.squares(rows := predictions[predictions["fold"] == fold]),
            "cpu",
        )
        found = rows[side_by_side.classes.logit_columns].to_numpy()
        assert np.linalg.norm(found - expected) < 1e-3 * np.linalg.norm(expected)


@pytest.mark.parametrize("compile", ["off", pytest.param("on", marks=needs_gpu)])
@pytest.mark.parametrize(("arithmetic", "tolerance"), [("fp32", 1e-4), ("bf16", 0.05)])
def test_scoring_gives_what_a_cpu_gives_in_float32_in_any_company(
    side_by_side: Run,
    networks: PackagedNetworks,
    arithmetic: Arithmetic,
    tolerance: float,
    compile: Compile,
    place: Path,
) -> None:
    def ensemble(device: str, arithmetic: Arithmetic, compile: Compile) -> Ensemble:
        cache = place / f"compiled {arithmetic}"
        return Ensemble(networks, device=device, arithmetic=arithmetic, n_images=0, compile=compile, cache=cache)

    squares = side_by_side.squares(side_by_side.images())
    folds = [0] if compile == "on" else None  # a network takes its time to compile
    expected = ensemble("cpu", "fp32", "off").run(squares, folds)[0]
    fast = ensemble(DEVICE, arithmetic, compile)
    together = fast.run(squares, folds)[0]
    alone = np.concatenate([fast.run(squares[k : k + 1], folds)[0] for k in range(8)], axis=1)
    assert np.linalg.norm(together - expected) < tolerance * np.linalg.norm(expected)
    assert np.linalg.norm(alone - expected[:, :8]) < tolerance * np.linalg.norm(expected[:, :8])


def test_a_map_shows_what_a_cpu_shows(side_by_side: Run, networks: PackagedNetworks) -> None:
    squares = side_by_side.squares(side_by_side.images())[:8]
    target = np.arange(8) % 2
    models = [networks.model(fold) for fold in range(2)]
    expected = heat_maps(models, squares, target)
    found = heat_maps([model.to(DEVICE) for model in models], squares, target)
    np.testing.assert_allclose(found, expected, atol=0.02)
