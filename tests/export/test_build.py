import dataclasses
import itertools
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from markdown_it import MarkdownIt
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from cxr.errors import PackageError, RunError
from cxr.export.build import make_package
from cxr.export.model_card import model_card
from cxr.images.vitals import fingerprint
from cxr.metrics.calibration import fit_calibration, fit_thresholds
from cxr.network.resnet import normalise, predict_logits, to_grey
from cxr.serving.package import Package, load_package
from cxr.storage import files
from cxr.storage.files import sha256_of
from cxr.storage.model_folder import ModelFolder
from cxr.storage.run_folder import RunFolder
from cxr.training.run import Run
from tests.support.processes import start_process, wait_for
from tests.support.runs import finished_run


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def head(sample: Path, weights_file: str) -> Run:
    """A finished run with a frozen trunk."""
    return finished_run(sample, weights=weights_file, trainable="head")


@pytest.fixture(scope="module")
def whole(sample: Path) -> Run:
    """A finished run of which everything was trained."""
    return finished_run(sample)


@pytest.fixture(scope="module", params=["head", "all"])
def packaged(request: pytest.FixtureRequest, models: Path) -> tuple[Run, Package]:
    """A finished run and the package made of it."""
    run = request.getfixturevalue({"head": "head", "all": "whole"}[request.param])
    return run, load_package(make_package(run, ModelFolder.named(models, request.param)))


@pytest.fixture(scope="module")
def three(sample: Path, weights_file: str) -> Run:
    """A finished run with three classes."""
    return finished_run(sample, weights=weights_file, trainable="head", label_from="subtype")


def copy_of(run: Run, place: Path) -> Run:
    folder = RunFolder(place / run.folder.run_id)
    shutil.copytree(run.folder.path, folder.path, copy_function=os.link)
    return dataclasses.replace(run, folder=folder)


def targets(run: Run, predictions: pd.DataFrame) -> NDArray[np.int64]:
    return np.array([run.classes.index(label) for label in predictions["label"]])


def test_a_package_holds_all_that_scoring_needs_and_says_what_it_is(packaged: tuple[Run, Package]) -> None:
    run, package = packaged
    folder = package.folder
    names = {"README.md", "SHA256SUMS", "images.parquet", "novelty.safetensors", "package.json"}
    weights = {"shared.safetensors", "fold-0.safetensors", "fold-1.safetensors"}
    assert {path.name for path in folder.path.iterdir()} == names | weights
    facts = files.read_json(folder.description)
    record = files.read_record(run.folder.config)
    assert {name: facts[name] for name in ("name", "version", "run_id", "classes", "positive", "size", "n_folds")} == {
        "name": run.config.trainable,
        "version": "1",
        "run_id": run.folder.run_id,
        "classes": ["NORMAL", "PNEUMONIA"],
        "positive": "PNEUMONIA",
        "size": 32,
        "n_folds": 2,
    }
    assert facts["trainable"] == package.trainable == run.config.trainable
    assert facts["n_images"] == len(run.images()) == len(package.images())
    kept = facts["config"]
    assert kept == record["config"] | {"data": kept["data"], "weights": kept["weights"]}
    assert (kept["data"], kept["weights"]) == (Path(run.config.data).name, Path(run.config.weights).name)
    weights_hash = "none" if run.config.weights == "none" else sha256_of(Path(run.config.weights))
    data_hash = files.read_json(run.folder.data)["data_hash"]
    assert facts["hashes"] == {"data": data_hash, "weights": weights_hash, "config": run.config_hash}
    assert package.threshold == package.thresholds["youden"]


def test_sha256sum_accepts_the_sums_and_they_name_every_file(packaged: tuple[Run, Package]) -> None:
    folder = packaged[1].folder
    command = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
    checked = subprocess.run(command, cwd=folder.path, capture_output=True, text=True, check=True)
    named = {line.removesuffix(": OK") for line in checked.stdout.splitlines()}
    assert named == {path.name for path in folder.path.iterdir()} - {"SHA256SUMS"}


def test_whoever_may_read_the_card_may_read_the_weights(packaged: tuple[Run, Package]) -> None:
    modes = {path.name: oct(path.stat().st_mode) for path in packaged[1].folder.path.iterdir()}
    assert set(modes.values()) == {modes["README.md"]}, modes


def test_every_fold_comes_back_with_the_weights_it_was_trained_to(packaged: tuple[Run, Package]) -> None:
    run, package = packaged
    for fold in range(2):
        trained, model = load_file(run.folder.fold(fold).weights), package.networks.model(fold)
        assert not any(module.training for module in model.modules())
        assert model.state_dict().keys() == trained.keys()
        assert all(torch.equal(tensor, trained[name]) for name, tensor in model.state_dict().items())
        assert torch.equal(package.networks.head(fold).weight, trained["network.fc.weight"])
        assert torch.equal(package.networks.head(fold).bias, trained["network.fc.bias"])
        assert all(
            torch.equal(c, trained[n]) for c, n in zip(package.networks.constants(), ("mean", "std"), strict=True)
        )


def test_weights_that_all_folds_share_are_stored_once(packaged: tuple[Run, Package]) -> None:
    run, package = packaged
    folder = package.folder
    shared, *own = (set(load_file(f)) for f in (folder.shared_weights, folder.fold_weights(0), folder.fold_weights(1)))
    assert own[0] == own[1]
    assert not shared & own[0]
    if run.config.trainable == "head":
        assert own[0] == {"network.fc.weight", "network.fc.bias"}
    else:
        assert {"mean", "std"} <= shared
        assert not any(name.endswith(("weight", "bias")) for name in shared)


def test_calibration_and_thresholds_come_from_out_of_fold_predictions_alone(
    packaged: tuple[Run, Package],
) -> None:
    run, package = packaged
    predictions = pd.read_parquet(run.folder.path / "metrics" / "predictions.parquet")
    logits, target = predictions[["logit_NORMAL", "logit_PNEUMONIA"]].to_numpy(), targets(run, predictions)
    assert package.calibration == fit_calibration(logits, target)
    probability = np.full(len(predictions), np.nan)
    for fold in (0, 1):
        mine, others = predictions["fold"].to_numpy() == fold, predictions["fold"].to_numpy() != fold
        probability[mine] = fit_calibration(logits[others], target[others]).probability(logits[mine])[:, 1]
    assert package.thresholds == fit_thresholds(probability, target == 1)
    images = package.images()
    assert images["image_id"].tolist() == predictions["image_id"].tolist()
    calibrated = images[["probability_NORMAL", "probability_PNEUMONIA"]].to_numpy()
    np.testing.assert_allclose(calibrated, package.calibration.probability(logits), atol=1e-12)
    predicted = np.where(images["probability_PNEUMONIA"] >= package.thresholds["youden"], "PNEUMONIA", "NORMAL")
    assert images["predicted_label"].tolist() == predicted.tolist()


def test_the_images_of_a_package_are_described_one_by_one(head: Run, models: Path) -> None:
    images = load_package(make_package(head, ModelFolder.named(models, "head"))).images()
    known = head.images().set_index("image_id")
    assert sorted(images["image_id"]) == sorted(known.index)
    for row in images.itertuples():
        image = known.loc[[row.image_id]].reset_index()
        square = head.squares(image)[0]
        with Image.open(Path(head.config.data) / image["path"][0]) as picture:
            assert (row.width, row.height) == picture.size
        assert (row.label, row.fold) == (image["label"][0], image["fold"][0])
        assert row.fingerprint == fingerprint(square)
        assert (row.mean, row.contrast) == pytest.approx((square.mean(), square.std()))


def test_images_name_no_patient_and_no_path(packaged: tuple[Run, Package]) -> None:
    run, package = packaged
    images, manifest = package.images(), files.read_table(run.folder.manifest)
    assert images.columns.tolist() == [
        "image_id",
        "fingerprint",
        "group",
        "fold",
        "label",
        "probability_NORMAL",
        "probability_PNEUMONIA",
        "novelty",
        "width",
        "height",
        "chroma",
        "mean",
        "contrast",
        "border",
        "dark_share",
        "bright_share",
        "predicted_label",
    ]
    text = images.select_dtypes(exclude="number")
    assert set(text["label"]) | set(text["predicted_label"]) <= {"NORMAL", "PNEUMONIA"}
    assert text[["image_id", "fingerprint"]].map(lambda cell: len(bytes.fromhex(cell))).eq(32).all(axis=None)
    groups = run.images().set_index("image_id").loc[images["image_id"], "group_id"]
    assert len(set(zip(images["group"], groups, strict=True))) == images["group"].nunique() == groups.nunique()
    assert sorted(images["group"].unique()) == list(range(groups.nunique()))
    written = b"".join(f.read_bytes() for f in (package.folder.images, package.folder.description, package.folder.card))
    names = {*manifest["patient_id"].dropna(), *groups, *(Path(path).name for path in manifest["path"])}
    assert not [name for name in names if len(name) > 3 and name.encode() in written]


@torch.inference_mode()
def pooled_features(package: Package, squares: NDArray[np.uint8]) -> NDArray[np.float32]:
    model = package.networks.model(0)
    model.network.fc = nn.Identity()
    return model.network(normalise(to_grey(torch.from_numpy(squares)), model.mean, model.std)).numpy()


def test_novelty_stands_for_the_images_that_fold_0_never_saw(packaged: tuple[Run, Package]) -> None:
    run, package = packaged
    images = package.images()
    assert images["novelty"].notna().tolist() == (images["fold"] == 0).tolist()
    known = run.images().set_index("image_id")
    seen, unseen = (
        run.squares(known.loc[images.loc[rows, "image_id"]].reset_index())
        for rows in (images["fold"] != 0, images["fold"] == 0)
    )
    novelty = package.novelty()
    again = novelty.distance(pooled_features(package, unseen), unseen)
    np.testing.assert_allclose(images["novelty"].dropna(), again, rtol=1e-3)
    features = pooled_features(package, seen)
    np.testing.assert_allclose(novelty.network.mean, features.mean(axis=0), atol=1e-4)
    assert np.median(novelty.distance(features, seen)) < np.median(again)


def read_card(text: str) -> tuple[dict[str, Any], list[str]]:
    """Return a card's metadata and the cells of its tables."""
    nothing, front, body = text.split("---\n", 2)
    assert nothing == ""
    tokens = MarkdownIt().enable("table").parse(body)
    return yaml.safe_load(front), [
        token.content for before, token in itertools.pairwise(tokens) if before.type == "td_open"
    ]


@pytest.mark.parametrize("name", ["tiny", "null", "1.0"])
def test_the_card_is_yaml_and_markdown_with_the_metrics_of_the_run(head: Run, models: Path, name: str) -> None:
    facts = files.read_json(make_package(head, ModelFolder.named(models, "head")).description)
    meta, cells = read_card(model_card(facts | {"name": name}))
    assert (meta["license"], meta["pipeline_tag"]) == ("apache-2.0", "picture-classification")
    (model,) = meta["model-index"]
    assert model["name"] == f"{name} 1"
    metrics = files.read_table(head.folder.metrics)
    rows = metrics[(metrics["scope"] == "pooled") & ~metrics["metric"].str.contains("true_|false_")]
    (result,) = model["results"]
    assert result["dataset"]["name"] == head.folder.run_id
    said = {entry["type"]: entry["value"] for entry in result["metrics"]}
    assert said == pytest.approx({row.metric: 100 * row.value for row in rows.itertuples()}, abs=0.00501)
    for row in rows.itertuples():
        assert cells[cells.index(row.metric) + 2] == (
            f"{100 * row.value:.1f} [{100 * row.ci_low:.1f}, {100 * row.ci_high:.1f}]"
        )
    for point, threshold in facts["thresholds"].items():
        assert cells[cells.index(point) + 1] == f"{threshold:.4f}"


def test_a_metric_that_is_undefined_is_a_dash_in_the_card(head: Run, models: Path) -> None:
    facts = files.read_json(make_package(head, ModelFolder.named(models, "head")).description)
    undefined = dict.fromkeys(("mean", "sd", "pooled", "ci_low", "ci_high")) | {"metric": "roc_auc"}
    meta, cells = read_card(model_card(facts | {"metrics": [undefined]}))
    assert meta["model-index"][0]["results"][0]["metrics"][0]["value"] is None
    assert cells[:3] == ["roc_auc", "– ± –", "–"]


def test_packaging_a_run_again_gives_the_same_version(head: Run, models: Path) -> None:
    model = ModelFolder.named(models, "head")
    first = make_package(head, model)
    before = {path: path.stat().st_mtime_ns for path in first.path.iterdir()}
    assert make_package(head, model) == first
    assert {path: path.stat().st_mtime_ns for path in first.path.iterdir()} == before
    other = make_package(head, model, operating_point="specificity_95")
    assert (first.version, other.version, model.versions()) == ("1", "2", ["1", "2"])
    package = load_package(other)
    assert package.threshold == package.thresholds["specificity_95"]
    predicted = package.images()["probability_PNEUMONIA"] >= package.threshold
    assert (package.images()["predicted_label"] == "PNEUMONIA").tolist() == predicted.tolist()
    assert make_package(head, model) == first
    assert make_package(head, model, operating_point="specificity_95") == other


def test_the_number_of_a_version_that_was_deleted_is_not_given_again(head: Run, tmp_path: Path) -> None:
    model = ModelFolder.named(tmp_path / "models", "head")
    make_package(head, model)
    shutil.rmtree(make_package(head, model, operating_point="specificity_95").path)
    assert make_package(head, model, operating_point="specificity_95").version == "3"


@pytest.mark.parametrize(
    ("lacking", "sentence"),
    [("folds/fold=1/complete.json", "lacks fold 1"), ("metrics/predictions.parquet", "cxr evaluate")],
)
def test_an_unfinished_run_is_refused_and_leaves_nothing(
    head: Run, tmp_path: Path, lacking: str, sentence: str
) -> None:
    run = copy_of(head, tmp_path)
    (run.folder.path / lacking).unlink()
    model = ModelFolder.named(tmp_path / "models", "tiny")
    with pytest.raises(RunError, match=sentence):
        make_package(run, model)
    assert not list(model.path.glob("*"))


def test_a_killed_packaging_leaves_no_version_and_the_next_sweeps_up(head: Run, tmp_path: Path) -> None:
    model = ModelFolder.named(tmp_path / "models", "tiny")
    process = start_process(make_package, head, model)
    wait_for(lambda: list(model.path.glob(".making-*")), "the packaging to begin", timeout_s=60)
    process.kill()
    process.join()
    assert [path.name for path in model.path.iterdir()] == [f".making-{process.pid}"]
    assert model.versions() == []
    load_package(make_package(head, model))
    assert sorted(path.name for path in model.path.iterdir()) == ["1", "newest"]


def test_more_than_two_classes_are_packaged_without_thresholds(three: Run, tmp_path: Path) -> None:
    made = make_package(three, ModelFolder.named(tmp_path / "models", "three"))
    package = load_package(made)
    assert (package.classes, package.thresholds) == (["NORMAL", "bacteria", "virus"], {})
    images = package.images()
    probability = images[[f"probability_{name}" for name in package.classes]]
    likeliest = probability.idxmax(axis=1).str.removeprefix("probability_")
    assert images["predicted_label"].tolist() == likeliest.tolist()
    logits = np.stack(
        [predict_logits(package.networks.model(fold), three.squares(three.images().head(8)), "cpu") for fold in (0, 1)]
    )
    assert set(package.predict(logits)[2]) <= set(package.classes)
    meta, cells = read_card(made.card.read_text())
    assert "macro roc_auc" in {entry["type"] for entry in meta["model-index"][0]["results"][0]["metrics"]}
    assert "youden" not in cells


def test_an_operating_point_for_more_than_two_classes_is_refused_and_leaves_nothing(three: Run, tmp_path: Path) -> None:
    model = ModelFolder.named(tmp_path / "models", "three")
    with pytest.raises(PackageError, match="operating points are for two classes"):
        make_package(three, model, operating_point="sensitivity_95")
    assert not list(model.path.glob("*"))
