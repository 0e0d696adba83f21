"""8-bit integers: networks of their own, taken by a package only where they are shown to be no worse."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import metrics as sk

from cxr.cli.app import app as core
from cxr.config import ScorePrecision, TrainConfig
from cxr.errors import ConfigError, PackageError
from cxr.export.build import make_package
from cxr.export.int8.layers import require_int8
from cxr.images.inbox import Arrival
from cxr.metrics.calibration import fit_calibration
from cxr.network import int8, onnx_graph
from cxr.network.int8 import int8_hindrance, load_int8
from cxr.recalibration.recalibrate import recalibrate_model
from cxr.serving.package import Package, load_package
from cxr.serving.predictor import Predictor
from cxr.serving.screening import FileReading, examine_image
from cxr.storage import files
from cxr.storage.model_folder import ModelFolder
from cxr.storage.run_folder import RunFolder
from cxr.training.run import Run, load_run
from tests.support.integers import bright_config, draw_bright_and_dark
from tests.support.labels import from_table
from tests.support.runs import finish_run

needs_int8 = pytest.mark.skipif(int8_hindrance("cpu") is not None, reason=str(int8_hindrance("cpu")))


@pytest.fixture(scope="module")
def bright_or_dark(in_integers: Path) -> Run:
    return load_run(RunFolder.named(in_integers / "experiments", "run"))


@pytest.fixture(scope="module")
def package(in_integers: Path) -> Package:
    return load_package(ModelFolder.named(in_integers / "models", "bright").version("1"))


@pytest.fixture(scope="module")
def readings(bright_or_dark: Run) -> list[FileReading]:
    images = sorted(Path(bright_or_dark.config.data).rglob("*.png"))
    return [examine_image(Arrival(image.name, "", 0, 0), image.read_bytes(), 32) for image in images[::5]]


def probabilities(package: Package, readings: list[FileReading], precision: ScorePrecision, cache: Path) -> np.ndarray:
    predictor = Predictor(package, device="cpu", precision=precision, compile="off", cache=cache)
    return np.array([list(prediction.probability.values()) for prediction in predictor.predict(readings)])


@needs_int8
def test_a_package_made_with_8_bit_integers_scores_with_them_alone(
    package: Package, readings: list[FileReading], tmp_path: Path
) -> None:
    assert probabilities(package, readings, "auto", tmp_path).tolist() == (
        probabilities(package, readings, "int8", tmp_path).tolist()
    )
    for precision in ("fp32", "bf16"):
        with pytest.raises(ConfigError, match=f"--precision {precision} is not available for bright version 1: it was"):
            probabilities(package, readings, precision, tmp_path)
    (prediction,) = Predictor(package, cache=tmp_path).predict(readings[:1])
    assert prediction.columns["arithmetic"] == "int8"


@needs_int8
def test_a_package_says_how_its_integers_were_made_so_that_older_ones_are_made_anew(package: Package) -> None:
    assert package.facts["identity"]["int8"] == "biases corrected"


@needs_int8
def test_calibration_thresholds_and_metrics_are_those_of_the_integers(bright_or_dark: Run, package: Package) -> None:
    images = bright_or_dark.images().sort_values("path", ignore_index=True)
    run = load_int8(package.networks.int8_graph("shared", 0))
    with torch.inference_mode():
        squares = torch.from_numpy(bright_or_dark.squares(images))
        features = run(package.networks.preprocessing().inputs(squares))
        by_fold = [package.networks.head(fold)(features).double().numpy() for fold in range(2)]
    logits = np.stack(by_fold)[images["fold"], np.arange(40)]
    truth = (images["label"] == "PNEUMONIA").to_numpy()
    calibration = fit_calibration(logits, truth.astype(int))
    assert package.class_calibration.temperature == pytest.approx(calibration.temperature)
    assert package.class_calibration.bias == pytest.approx(calibration.bias)
    probability = calibration.probability(logits)[:, 1]
    reference = package.images().set_index("image_id").loc[images["image_id"]]
    assert reference["probability_PNEUMONIA"].to_numpy() == pytest.approx(probability)
    called = logits[:, 1] >= logits[:, 0]
    expected = {
        "roc_auc": sk.roc_auc_score(truth, logits[:, 1] - logits[:, 0]),
        "accuracy": sk.accuracy_score(truth, called),
    }
    found = {row["metric"]: row["pooled"] / 100 for row in package.facts["metrics"]}
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    exact = {row["metric"]: row["pooled"] / 100 for row in package.facts["int8"]["metrics_in_float32"]}
    table = files.read_table(bright_or_dark.folder.predictions)
    assert exact["roc_auc"] == pytest.approx(sk.roc_auc_score(table["label"], table["probability_PNEUMONIA"]))


@needs_int8
def test_how_they_were_judged_stands_in_run_package_and_card(bright_or_dark: Run, package: Package) -> None:
    table = files.read_table(bright_or_dark.folder.table("int8"))
    judged = pd.DataFrame(package.facts["int8"]["judged"])
    assert judged["holds"].tolist() == table["holds"].tolist() == [True] * 11
    assert judged["difference"].to_numpy() == pytest.approx(table["difference"])
    assert package.facts["int8"]["n_images"] == 40
    card = " ".join(package.folder.card.read_text().split())
    assert "This package scores in 8-bit integers alone." in card
    changed = 100 * package.facts["int8"]["share_changed"]
    assert f"On 40 images, {changed:.2f}% are called otherwise than in float32." in card


@needs_int8
def test_a_package_of_several_findings_scores_with_them(
    weights_file: str, readings: list[FileReading], tmp_path: Path
) -> None:
    draw_bright_and_dark(tmp_path / "images", seed=0, dark_are="PNEUMONIA", subtype="bacteria")
    config = replace(bright_config(tmp_path / "images", weights_file), task="multi", label_from="subtype")
    run = finish_run(tmp_path, "run", config)
    package = load_package(make_package(run, ModelFolder.named(tmp_path / "models", "findings"), int8=True))
    assert {row["class"] for row in package.facts["int8"]["judged"]} == {"bacteria", "virus"}
    assert len(package.facts["int8"]["judged"]) == 22
    assert "scores in 8-bit integers alone" in package.folder.card.read_text()
    probability = probabilities(package, readings, "auto", tmp_path)
    assert probability.argmax(axis=1).tolist() == [0] * 4 + [1] * 4, "four dark images, then four bright ones"


@needs_int8
def test_a_recalibrated_version_keeps_them(package: Package, tmp_path: Path) -> None:
    model = ModelFolder.named(tmp_path / "models", "bright")
    shutil.copytree(package.folder.path, model.version("1").path, copy_function=os.link)
    draw_bright_and_dark(tmp_path / "images", seed=1)
    images = sorted((tmp_path / "images").rglob("*.png"))
    labels = tmp_path / "labels.csv"
    labels.write_text("path,label\n" + "".join(f"{path},{path.parent.name}\n" for path in images))
    start = load_package(model.version("1"))
    made = load_package(recalibrate_model(model, start, from_table(labels), cache=tmp_path / "cache"))
    assert made.facts["int8"] == start.facts["int8"]
    assert made.folder.int8_graph("shared", 0).samefile(package.folder.int8_graph("shared", 0))
    readings = [examine_image(Arrival(image.name, "", 0, 0), image.read_bytes(), 32) for image in images]
    before = probabilities(start, readings, "auto", tmp_path)
    truth = np.array([image.parent.name == "PNEUMONIA" for image in images]).astype(int)
    errors = made.facts["thresholds_from"]["errors"]["before"]
    assert errors["log_loss"] == pytest.approx(sk.log_loss(truth, before[:, 1])), "it starts from what integers give"


@needs_int8
def test_a_model_that_is_not_shown_to_be_as_good_in_them_is_refused_and_nothing_is_left(
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
    run = finish_run(tmp_path, "run", config)
    words = ["package", "run", "--name=tiny", f"--experiments={tmp_path / 'experiments'}", "--int8"]
    refusal = r"--int8 is refused: on 76 held-out images .* ROC-AUC of PNEUMONIA by up to \d+\.\d\d points \(0\.20 "
    with pytest.raises(PackageError, match=refusal):
        core([*words, f"--models={tmp_path / 'models'}"])
    assert [path.name for path in (tmp_path / "models" / "tiny").iterdir() if not path.name.startswith(".lock")] == []
    assert not files.read_table(run.folder.table("int8"))["holds"].all()
    assert load_package(make_package(run, ModelFolder.named(tmp_path / "models", "tiny"))).version == "1"


@needs_int8
def test_a_package_or_a_processor_without_8_bit_integers_is_reported(
    package: Package, readings: list[FileReading], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = replace(package, facts={key: v for key, v in package.facts.items() if key != "int8"})
    with pytest.raises(
        ConfigError, match="--precision int8 is not available for bright version 1: it was packaged without --int8"
    ):
        probabilities(plain, readings, "int8", tmp_path)
    assert len(probabilities(plain, readings, "auto", tmp_path)) == len(readings)
    abilities = {name: able for name, able in torch.cpu.get_capabilities().items() if name not in int8.ABILITIES}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: abilities)
    for precision in ("auto", "int8"):
        with pytest.raises(ConfigError, match="bright version 1 scores in 8-bit integers, but this processor has none"):
            probabilities(package, readings, precision, tmp_path)


@needs_int8
def test_integers_from_before_they_were_judged_do_not_score(
    package: Package, readings: list[FileReading], tmp_path: Path
) -> None:
    before = replace(package, facts=package.facts | {"int8": {"share_moved": 0.0}})
    with pytest.raises(ConfigError, match="bright version 1 has 8-bit integers with the thresholds of float32"):
        probabilities(before, readings, "auto", tmp_path)


def test_float32_and_integers_are_not_packaged_together(head: Run, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--onnx writes float32 and --int8 integers"):
        make_package(head, ModelFolder.named(tmp_path / "models", "tiny"), onnx=True, int8=True)
    assert not (tmp_path / "models").exists()


def test_a_processor_without_the_instructions_is_reported_before_anything_is_written(
    head: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
    model = ModelFolder.named(tmp_path / "models", "tiny")
    with pytest.raises(ConfigError, match="--int8 is not available: this processor has none of avx512_vnni"):
        make_package(head, model, int8=True)
    assert not model.path.exists()


def test_missing_onnx_packages_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_graph.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"--int8 needs onnx and onnxscript: install cxr with the extra \[onnx\]"):
        require_int8()
