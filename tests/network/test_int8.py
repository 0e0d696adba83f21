"""8-bit integers: against the layers in float32, and taken by a package only where they cost next to nothing."""

import os
import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from cxr.cli.app import app as core
from cxr.config import Execution, ScorePrecision, TrainConfig
from cxr.dataset.examination import examine
from cxr.errors import ConfigError, PackageError
from cxr.evaluation.tables import evaluate
from cxr.export.build import make_package
from cxr.export.rounding import measure_int8, require_tolerable
from cxr.images.inbox import Arrival
from cxr.metrics.calibration import Calibration, CalibrationOfFindings
from cxr.network import int8
from cxr.network.int8 import int8_hindrance, load_int8, quantise
from cxr.network.resnet import predict_logits
from cxr.recalibration.recalibrate import recalibrate_model
from cxr.serving.package import Package, load_package
from cxr.serving.predictor import Predictor
from cxr.serving.screening import FileReading, examine_image
from cxr.storage.model_folder import ModelFolder
from cxr.storage.run_folder import RunFolder
from cxr.training.run import Run, begin_run
from cxr.training.trainer import train_fold
from tests.support.labels import from_table

needs_int8 = pytest.mark.skipif(int8_hindrance("cpu") is not None, reason=str(int8_hindrance("cpu")))


def make_layers() -> nn.Module:
    """A convolution with batch norm, one that strides, and pooling, as in a ResNet's trunk."""
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(8)
    nn.init.uniform_(norm.weight, 0.5, 2)
    nn.init.uniform_(norm.bias, -1, 1)
    rest = (nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), norm, *rest).eval()


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(40, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def graph(images: Tensor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("graph") / "layers.onnx"
    quantise(make_layers(), images[:33], path)
    return path


@needs_int8
def test_the_layers_say_nearly_the_same_in_8_bit_integers(images: Tensor, graph: Path) -> None:
    with torch.inference_mode():
        exact = make_layers()(images)
    coarse = load_int8(graph)(images)
    error = (coarse - exact).norm() / exact.norm()
    assert 1e-4 < error < 0.03
    assert (coarse.dtype, coarse.shape) == (exact.dtype, exact.shape)


@needs_int8
def test_every_convolution_multiplies_integers(graph: Path) -> None:
    nodes = onnx.load(graph).graph.node
    made_by = {name: node for node in nodes for name in node.output}
    convolutions = [node for node in nodes if node.op_type == "Conv"]
    assert len(convolutions) == 2
    for convolution in convolutions:
        assert {made_by[name].op_type for name in convolution.input} == {"DequantizeLinear"}


@needs_int8
def test_an_image_has_the_same_output_in_any_company(images: Tensor, graph: Path) -> None:
    run = load_int8(graph)
    together = run(images)
    for part in (1, 7, 16):
        assert torch.cat([run(some) for some in images.split(part)]).equal(together)


def test_a_hindrance_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert int8_hindrance("cuda:0") == "8-bit integers need a CPU, and the device is cuda:0"
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_vnni": True})
    monkeypatch.setattr(int8.importlib.util, "find_spec", lambda name: None)
    assert int8_hindrance("cpu") == "onnxruntime is missing: install cxr with the extra [onnx]"
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_vnni": False})
    assert int8_hindrance("cpu") == "this processor has none of avx512_vnni, avx_vnni, amx_int8"


def draw_bright_and_dark(place: Path, seed: int, *, dark_are: str = "NORMAL", subtype: str = "virus") -> None:
    """Draw 20 dark images of a class and of the subtype, and 20 bright ones of the class PNEUMONIA and virus."""
    generator = np.random.default_rng(seed)
    for k in range(40):
        of_class, of_subtype, darkest = ((dark_are, subtype, 20), ("PNEUMONIA", "virus", 150))[k % 2]
        image = place / of_class / f"person{k}_{of_subtype}_{k}.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(darkest, darkest + 90, (48, 48), dtype=np.uint8)).save(image)


@pytest.fixture(scope="module")
def bright_or_dark(weights_file: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run on images that a network tells apart at sight, so that rounding changes no order of theirs."""
    place = tmp_path_factory.mktemp("bright_or_dark")
    draw_bright_and_dark(place / "images", seed=0)
    return finish(head_config(place / "images", weights_file), RunFolder.named(place, "run"), place / "cache")


def head_config(data: Path, weights_file: str) -> TrainConfig:
    return TrainConfig(
        data=str(data),
        weights=weights_file,
        trainable="head",
        size=32,
        folds=2,
        epochs=20,
        batch_size=8,
        learning_rate=3e-3,
    )


def finish(config: TrainConfig, folder: RunFolder, cache: Path) -> Run:
    examine(config, folder, cache=cache, size=config.size)
    run = begin_run(config, folder, Execution(cache=cache, devices="cpu"))
    for fold in range(config.folds):
        train_fold(run, fold, "cpu")
    evaluate(run)
    return run


@pytest.fixture(scope="module")
def package(bright_or_dark: Run, tmp_path_factory: pytest.TempPathFactory) -> Package:
    target = ModelFolder.named(tmp_path_factory.mktemp("models"), "bright")
    return load_package(make_package(bright_or_dark, target, int8=True))


@pytest.fixture(scope="module")
def readings(bright_or_dark: Run) -> list[FileReading]:
    images = sorted(Path(bright_or_dark.config.data).rglob("*.png"))
    return [examine_image(Arrival(image.name, "", 0, 0), image.read_bytes(), 32) for image in images[::5]]


def probabilities(package: Package, readings: list[FileReading], precision: ScorePrecision, cache: Path) -> np.ndarray:
    predictor = Predictor(package, device="cpu", precision=precision, compile="off", cache=cache)
    return np.array([list(prediction.probability.values()) for prediction in predictor.predict(readings)])


@needs_int8
def test_a_package_made_with_8_bit_integers_scores_with_them(
    package: Package, readings: list[FileReading], tmp_path: Path
) -> None:
    exact, coarse = (probabilities(package, readings, precision, tmp_path) for precision in ("fp32", "int8"))
    assert probabilities(package, readings, "auto", tmp_path).tolist() == coarse.tolist()
    assert 0 < np.abs(coarse - exact).max() < 0.01
    assert "## 8-bit integers" in package.folder.card.read_text()


@needs_int8
def test_what_they_cost_is_measured_on_images_that_the_network_never_saw(bright_or_dark: Run, package: Package) -> None:
    squares = {fold: bright_or_dark.squares(images) for fold, images in bright_or_dark.images().groupby("fold")}
    run = load_int8(package.networks.int8_graph("shared", 0))
    preprocessing = package.networks.preprocessing()
    moved = []
    for fold, images in squares.items():
        with torch.inference_mode():
            features = run(preprocessing.inputs(torch.from_numpy(images)))
            logits = package.networks.head(int(str(fold)))(features).double().numpy()
        exact = predict_logits(package.networks.model(int(str(fold))), images, "cpu")
        both = (package.calibration.probability(some) for some in (logits, exact))
        moved.append(np.abs(np.subtract(*both)).max(axis=1))
    found = package.facts["int8"]
    assert found["largest_probability_difference"] == pytest.approx(np.concatenate(moved).max(), abs=1e-4)
    assert (found["share_moved"], found["largest_auc_difference"], found["n_images"]) == (0, 0, 40)


@needs_int8
def test_what_they_cost_findings_is_measured_where_each_is_known(
    bright_or_dark: Run, package: Package, tmp_path: Path
) -> None:
    images = bright_or_dark.images()
    present = (images["label"] == "PNEUMONIA").to_numpy(float)
    is_unknown = np.arange(len(images)) % 3 == 0
    labels = np.stack([present, np.where(is_unknown, np.nan, 1 - present)], axis=1)
    calibration = CalibrationOfFindings((Calibration(1.0, (0.0, 0.0)),) * 2)
    squares, folds = bright_or_dark.squares(images), images["fold"].to_numpy()
    found = measure_int8(package.networks, calibration, squares, folds, labels, tmp_path)
    assert (found["largest_auc_difference"], found["n_images"]) == (0, 40)
    assert 0 < found["largest_probability_difference"] < 0.1


@needs_int8
def test_a_package_of_several_findings_scores_with_them(
    weights_file: str, readings: list[FileReading], tmp_path: Path
) -> None:
    draw_bright_and_dark(tmp_path / "images", seed=0, dark_are="PNEUMONIA", subtype="bacteria")
    config = replace(head_config(tmp_path / "images", weights_file), task="multi", label_from="subtype")
    run = finish(config, RunFolder.named(tmp_path, "run"), tmp_path / "cache")
    package = load_package(make_package(run, ModelFolder.named(tmp_path / "models", "findings"), int8=True))
    assert package.facts["int8"]["n_images"] == 40
    exact, coarse = (probabilities(package, readings, precision, tmp_path) for precision in ("fp32", "int8"))
    assert 0 < np.abs(coarse - exact).max() < 0.01
    assert coarse.argmax(axis=1).tolist() == [0] * 4 + [1] * 4, "four dark images, then four bright ones"


@needs_int8
def test_a_recalibrated_version_keeps_them_if_the_labelled_images_allow_it(
    package: Package, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ModelFolder.named(tmp_path / "models", "bright")
    shutil.copytree(package.folder.path, model.version("1").path, copy_function=os.link)
    draw_bright_and_dark(tmp_path / "images", seed=1)
    images = sorted((tmp_path / "images").rglob("*.png"))
    labels = tmp_path / "labels.csv"
    labels.write_text("path,label\n" + "".join(f"{path},{path.parent.name}\n" for path in images))
    start = load_package(model.version("1"))
    made = load_package(recalibrate_model(model, start, from_table(labels), cache=tmp_path / "cache"))
    assert made.facts["int8"]["n_images"] == 40
    assert made.facts["int8"]["share_moved"] <= 0.01
    assert made.folder.int8_graph("shared", 0).samefile(package.folder.int8_graph("shared", 0))
    assert "8-bit integers of" not in caplog.text
    labels.write_text("path,label\n" + "".join(f"{path},{path.parent.name}\n" for path in images[5:]))
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
    made = load_package(recalibrate_model(model, start, from_table(labels), cache=tmp_path / "cache"))
    assert not made.has_int8
    assert not made.folder.int8_graph("shared", 0).exists()
    assert "version 1 has 8-bit integers, the new one has none: this processor" in caplog.text


@needs_int8
def test_a_model_that_they_move_too_far_is_refused_and_nothing_is_left(
    sample: Path, weights_file: str, tmp_path: Path
) -> None:
    config = TrainConfig(
        data=str(sample),
        weights=weights_file,
        trainable="layer4",
        size=32,
        folds=2,
        epochs=1,
        batch_size=16,
    )
    run = finish(config, RunFolder.named(tmp_path / "experiments", "run"), tmp_path / "cache")
    words = ["package", "run", "--name=tiny", f"--experiments={tmp_path / 'experiments'}", "--int8"]
    with pytest.raises(
        PackageError, match=r"--int8 is refused: .* 76 images .* ROC-AUC by 0\.\d+; at most 1% and 0\.001"
    ):
        core([*words, f"--models={tmp_path / 'models'}"])
    assert [path.name for path in (tmp_path / "models" / "tiny").iterdir() if not path.name.startswith(".lock")] == []
    assert load_package(make_package(run, ModelFolder.named(tmp_path / "models", "tiny"))).version == "1"


@pytest.mark.parametrize(
    ("share", "auc", "is_refused"), [(0.01, 0.001, False), (0.011, 0.0, True), (0.0, 0.0011, True), (0.0, 0.0, False)]
)
def test_one_image_in_a_hundred_may_move_and_the_area_by_a_thousandth(
    share: float, auc: float, is_refused: bool
) -> None:
    found = {
        "share_moved": share,
        "largest_auc_difference": auc,
        "largest_probability_difference": 1.0,
        "n_images": 1000,
    }
    with pytest.raises(PackageError) if is_refused else nullcontext():
        require_tolerable(found)


@needs_int8
def test_a_package_or_a_processor_without_8_bit_integers_is_reported(
    package: Package,
    readings: list[FileReading],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = replace(package, facts={key: v for key, v in package.facts.items() if key != "int8"})
    with pytest.raises(
        ConfigError, match="--precision int8 is not available for bright: it was packaged without --int8"
    ):
        probabilities(plain, readings, "int8", tmp_path)
    without = probabilities(plain, readings, "auto", tmp_path)
    abilities = {name: able for name, able in torch.cpu.get_capabilities().items() if name not in int8.ABILITIES}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: abilities)
    assert probabilities(package, readings, "auto", tmp_path).tolist() == without.tolist()
    assert "the 8-bit integers of bright are not used: this processor has none of avx512_vnni" in caplog.text
    with pytest.raises(ConfigError, match="--precision int8 is not available for bright: this processor has none"):
        probabilities(package, readings, "int8", tmp_path)
