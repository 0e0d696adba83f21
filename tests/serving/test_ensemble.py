import copy
import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from cxr.network.preprocessing import Preprocessing
from cxr.network.resnet import Classifier, predict_logits
from cxr.network.views import view_maps
from cxr.recipe import Trainable
from cxr.serving.ensemble import STEP, Ensemble

SQUARES = np.random.default_rng(0).integers(0, 256, (STEP + 1, 32, 32), dtype=np.uint8)


@dataclass(frozen=True)
class Folds:
    """Networks in memory that differ in their trained layers; counts how often some of their layers run."""

    trainable: Trainable
    models: list[Classifier]
    runs: Counter[str] = field(default_factory=Counter)
    identity: str = "in memory"

    @property
    def n_folds(self) -> int:
        return len(self.models)

    def model(self, fold: int) -> Classifier:
        model = copy.deepcopy(self.models[fold])
        for name in ("maxpool", "layer4"):
            model.network.get_submodule(name).register_forward_hook(lambda *_, name=name: self.runs.update([name]))
        return model

    def head(self, fold: int) -> nn.Linear:
        return copy.deepcopy(self.models[fold].network.fc)

    def preprocessing(self) -> Preprocessing:
        return self.models[0].preprocessing


@pytest.fixture(scope="module")
def network() -> Classifier:
    """A network for three classes with non-trivial batch statistics and normalisation constants."""
    torch.manual_seed(0)
    model = Classifier(3).train()
    model.mean.fill_(0.4)
    model.std.fill_(0.3)
    with torch.no_grad():
        for _ in range(3):
            model(torch.rand(8, 1, 32, 32))
    return model.eval()


def make_folds(network: Classifier, trainable: Trainable, n_folds: int = 2) -> Folds:
    """Return copies with different weights and batch statistics in their trained layers."""
    torch.manual_seed(1)
    models = [copy.deepcopy(network) for _ in range(n_folds)]
    for model in models:
        _, trained = model.stages(trainable)
        for tensor in trained.state_dict().values():
            if tensor.is_floating_point():
                tensor.mul_(torch.empty_like(tensor).uniform_(0.7, 1.3))
    return Folds(trainable, models)


def ensemble(folds: Folds, cache: Path) -> Ensemble:
    return Ensemble(folds, device="cpu", arithmetic="fp32", n_images=len(SQUARES), compile="off", cache=cache)


@torch.inference_mode()
def pooled_features(model: Classifier, squares: np.ndarray) -> np.ndarray:
    network = copy.deepcopy(model.network)
    network.fc = nn.Identity()
    return network(model.preprocessing.inputs(torch.from_numpy(squares))).numpy()


@pytest.mark.parametrize("trainable", ["all", "layer4", "head"])
def test_each_fold_answers_as_its_whole_network_does(network: Classifier, trainable: Trainable, tmp_path: Path) -> None:
    folds = make_folds(network, trainable, n_folds=3)
    logits, features = ensemble(folds, tmp_path).run(SQUARES[:11])
    expected = np.stack([predict_logits(model, SQUARES[:11], "cpu") for model in folds.models])
    assert np.ptp(expected, axis=0).min() > 1e-3, "the folds are not alike"
    np.testing.assert_allclose(logits, expected, atol=2e-5)
    np.testing.assert_allclose(features, pooled_features(folds.models[0], SQUARES[:11]), atol=2e-5)
    assert (logits.dtype, features.dtype, features.shape) == (np.float64, np.float32, (11, 2048))


@pytest.mark.parametrize("trainable", ["all", "layer4", "head"])
def test_each_fold_averages_over_the_views_as_its_whole_network_does(
    network: Classifier, trainable: Trainable, tmp_path: Path
) -> None:
    several = copy.deepcopy(network)
    several.view_maps = view_maps("zoom")
    folds = make_folds(several, trainable)
    squares = SQUARES[:30]  # with five views each, more than pass through together
    logits, features = ensemble(folds, tmp_path).run(squares)
    np.testing.assert_allclose(logits, [predict_logits(model, squares, "cpu") for model in folds.models], atol=2e-5)
    by_view = pooled_features(folds.models[0], squares).reshape(5, 30, 2048)
    np.testing.assert_allclose(features, by_view.mean(axis=0), atol=2e-5)
    assert np.abs(features - by_view[0]).max() > 1e-3


def test_an_images_output_depends_neither_on_the_order_nor_on_the_number_of_images(
    network: Classifier, tmp_path: Path
) -> None:
    both = ensemble(make_folds(network, "layer4"), tmp_path)
    logits, features = both.run(SQUARES)
    assert logits.shape == (2, STEP + 1, 3)
    order = np.random.default_rng(1).permutation(len(SQUARES))
    for images in (order[: STEP - 1], np.arange(1), np.array([STEP])):
        other_logits, other_features = both.run(SQUARES[images])
        np.testing.assert_allclose(other_logits, logits[:, images], atol=1e-5)
        np.testing.assert_allclose(other_features, features[images], atol=1e-5)


@pytest.mark.parametrize(
    ("trainable", "runs"),
    [
        ("all", {"maxpool": 3, "layer4": 3}),
        ("layer4", {"maxpool": 1, "layer4": 3}),
        ("head", {"maxpool": 1, "layer4": 1}),
    ],
)
def test_layers_that_the_folds_share_run_once(
    network: Classifier, trainable: Trainable, runs: dict[str, int], tmp_path: Path
) -> None:
    folds = make_folds(network, trainable, n_folds=3)
    ensemble(folds, tmp_path).run(SQUARES[:8])
    assert folds.runs == runs


def test_images_are_counted_view_by_view_to_decide_if_compiling_repays(network: Classifier, tmp_path: Path) -> None:
    several = copy.deepcopy(network)
    several.view_maps = view_maps("zoom")
    folds = make_folds(several, "head")
    Ensemble(folds, device="cpu", arithmetic="fp32", n_images=7, compile="auto", cache=tmp_path)
    (count,) = (file for file in tmp_path.rglob("*") if file.is_file())
    assert json.loads(count.read_text())["images"] == 35
