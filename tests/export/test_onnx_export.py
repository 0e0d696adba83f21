"""The exported graph against the scorer, from an image's bytes to its probability."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from cxr.config import ScoreConfig
from cxr.export.build import make_package
from cxr.images.decoding import decode_square
from cxr.images.synthetic import draw_inbox
from cxr.recalibration.recalibrate import recalibrate_model
from cxr.serving.ensemble import Ensemble
from cxr.serving.package import load_package
from cxr.serving.scoring.scorer import Scorer
from cxr.serving.scoring.scoring_runs import open_scoring_run
from cxr.storage import verified
from cxr.storage.model_folder import ModelFolder, PackageFolder
from cxr.storage.run_folder import RunFolder
from cxr.training.run import load_run
from tests.support.labels import from_table
from tests.support.runs import Finished
from tests.support.shared import NewFolder


@pytest.fixture(scope="module")
def model(home: Path, elsewhere: Path, new_folder: NewFolder) -> ModelFolder:
    """A model whose version 1 has a graph, and which was recalibrated as version 2."""
    place = new_folder("graph")
    model = ModelFolder.named(place / "models", "tiny")
    made = make_package(load_run(RunFolder(home / "experiments" / "run")), model, onnx=True)
    images = elsewhere.rglob("*.jpeg")
    rows = "".join(f"{path},{path.parent.name}\n" for path in images)
    (place / "labels.csv").write_text("path,label\n" + rows)
    labels = from_table(place / "labels.csv")
    recalibrate_model(model, load_package(made), labels, images=elsewhere, cache=place / "cache")
    return model


def graph_of(folder: PackageFolder) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(folder.onnx, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("version", ["1", "2"])
def test_the_graph_gives_the_probabilities_that_scoring_gives(model: ModelFolder, version: str, tmp_path: Path) -> None:
    verified.write_text(model.champion, version)
    draw_inbox(tmp_path / "inbox", n_images=5, seed=3)
    config = ScoreConfig(
        name="tiny", models=model.path.parent, cache=tmp_path / "c", settle=0, precision="fp32", out=tmp_path / "s"
    )
    run, (batch,) = open_scoring_run(tmp_path / "inbox", config)
    rows = Scorer(run).score(batch.name, batch.arrivals).query("status == 'ok'")
    assert set(rows["model_version"]) == {version}
    images = [(tmp_path / "inbox" / batch.name / path).read_bytes() for path in rows["path"]]
    squares = np.stack([decode_square(image, run.package().size) for image in images])
    session = graph_of(model.version(version))
    for n_images in (1, len(squares)):
        (probability,) = session.run(["probability"], {"squares": squares[:n_images]})
        expected = rows[["probability_NORMAL", "probability_PNEUMONIA"]].to_numpy()[:n_images]
        np.testing.assert_allclose(probability, expected, atol=1e-5)


def test_a_recalibrated_graph_is_another(model: ModelFolder) -> None:
    squares = np.zeros((1, 64, 64), np.uint8)
    before, after = (graph_of(model.version(v)).run(["probability"], {"squares": squares})[0] for v in "12")
    assert np.abs(after - before).max() > 1e-3


def test_a_package_averages_over_the_views_of_its_run_and_so_does_its_graph(
    finished: Finished, weights_file: str, tmp_path: Path
) -> None:
    run = finished(weights=weights_file, trainable="head", precision="fp32", test_views="zoom")
    package = load_package(make_package(run, ModelFolder.named(tmp_path, "zoom"), onnx=True))
    predictions = verified.read_table(run.folder.predictions)
    squares = run.squares(predictions)
    ensemble = Ensemble(
        package.networks, device="cpu", arithmetic="fp32", n_images=0, compile="off", cache=tmp_path / "cache"
    )
    logits, _ = ensemble.run(squares)
    out_of_fold = logits[predictions["fold"], np.arange(len(squares))]
    np.testing.assert_allclose(out_of_fold, predictions[["logit_NORMAL", "logit_PNEUMONIA"]], atol=1e-4)
    (probability,) = graph_of(package.folder).run(["probability"], {"squares": squares[:7]})
    np.testing.assert_allclose(probability, package.predict(logits[:, :7])[0], atol=1e-5)
    assert "logits averaged over the image and its four corners" in package.facts["preprocessing"]
