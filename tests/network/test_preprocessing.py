from pathlib import Path

import numpy as np
import pytest
import torch

from cxr.network.onnx_graph import write_graph
from cxr.network.preprocessing import Preprocessing, percentile_levels
from cxr.network.resnet import Classifier
from cxr.network.views import view_maps
from cxr.recipe import TestViews as Views

SQUARES = np.random.default_rng(0).integers(20, 200, (5, 33, 33), dtype=np.uint8)
MEAN = torch.full((1, 3, 1, 1), 0.4)
STD = torch.full((1, 3, 1, 1), 0.2)


def test_without_percentiles_grey_levels_are_divided_by_255_to_the_bit() -> None:
    grey = Preprocessing(MEAN, STD).grey(torch.from_numpy(SQUARES))
    assert torch.equal(grey[:, 0], torch.from_numpy(SQUARES).float() / 255)


@pytest.mark.parametrize("percentiles", [(2.0, 98.0), (0.0, 100.0), (50.0, 51.0)])
def test_levels_are_the_percentiles_that_numpy_finds_by_inverting_the_distribution(
    percentiles: tuple[float, float],
) -> None:
    found = percentile_levels(torch.from_numpy(SQUARES), torch.tensor(percentiles))
    expected = np.percentile(SQUARES.reshape(5, -1), percentiles, axis=1, method="inverted_cdf")
    np.testing.assert_array_equal(found.numpy(), expected)


def test_grey_levels_are_stretched_image_by_image_and_cut_off_outside() -> None:
    stretched = Preprocessing(MEAN, STD, torch.tensor((2.0, 98.0))).grey(torch.from_numpy(SQUARES))[:, 0].numpy()
    for square, result in zip(SQUARES.astype(np.float64), stretched, strict=True):
        low, high = np.percentile(square, (2, 98), method="inverted_cdf")
        np.testing.assert_allclose(result, np.clip((square - low) / (high - low), 0, 1), atol=1e-6)


def test_a_brighter_or_flatter_copy_of_an_image_is_the_same_image() -> None:
    preprocessing = Preprocessing(MEAN, STD, torch.tensor((2.0, 98.0)))
    even = torch.from_numpy(SQUARES // 2 * 2)
    torch.testing.assert_close(preprocessing.grey(even), preprocessing.grey(even // 2 + 30))


def test_an_image_of_one_level_becomes_black_and_not_a_number_out_of_range() -> None:
    flat = torch.full((1, 8, 8), 77, dtype=torch.uint8)
    assert Preprocessing(MEAN, STD, torch.tensor((2.0, 98.0))).grey(flat).abs().max() == 0


def test_inputs_are_normalised_by_channel() -> None:
    inputs = Preprocessing(MEAN, STD).inputs(torch.from_numpy(SQUARES)).numpy()
    assert inputs.shape == (5, 3, 33, 33)
    np.testing.assert_allclose(inputs[:, 1], (SQUARES / 255 - 0.4) / 0.2, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("standardise", ["none", "percentile"])
def test_weights_say_themselves_how_images_are_prepared(standardise: str) -> None:
    trained = Classifier(2, standardise=standardise)
    loaded = Classifier.from_weights(2, trained.state_dict())
    squares = torch.from_numpy(SQUARES)
    assert torch.equal(loaded.preprocessing.inputs(squares), trained.preprocessing.inputs(squares))
    assert (loaded.percentiles is None) == (standardise == "none")


class Inputs(torch.nn.Module):
    """The preprocessing by itself, as a graph has it around the network."""

    def __init__(self, views: Views) -> None:
        super().__init__()
        self.preprocessing = Preprocessing(MEAN, STD, torch.tensor((2.0, 98.0)), view_maps(views))

    def forward(self, squares: torch.Tensor) -> torch.Tensor:
        return self.preprocessing.mean_over_views(self.preprocessing.inputs(squares) ** 2)


@pytest.mark.parametrize("views", ["none", "zoom"])
def test_an_exported_graph_stretches_grey_levels_and_averages_over_views_as_torch_does(
    views: Views, tmp_path: Path
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    squares = torch.from_numpy(SQUARES)
    inputs = Inputs(views).eval()
    write_graph(inputs, squares[:2], tmp_path / "inputs.onnx", inputs="squares", outputs="inputs")
    session = onnxruntime.InferenceSession(tmp_path / "inputs.onnx", providers=["CPUExecutionProvider"])
    for n_images in (1, len(SQUARES)):
        (found,) = session.run(None, {"squares": SQUARES[:n_images]})
        np.testing.assert_allclose(found, inputs(squares[:n_images]).numpy(), rtol=1e-4, atol=1e-5)
