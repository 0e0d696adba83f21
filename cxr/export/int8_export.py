"""Writes a package's layers in 8-bit integers, and measures what they cost before they are accepted."""

from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from cxr.classes import Classes, Findings
from cxr.dataset.findings import known_labels
from cxr.errors import ConfigError
from cxr.export.rounding import INT8_COMPARED, evenly_spread, measure_int8, require_tolerable
from cxr.metrics.calibration import Calibration, CalibrationOfFindings
from cxr.network.int8 import int8_hindrance, quantise
from cxr.network.onnx_graph import require_onnx
from cxr.network.resnet import BATCH_SIZE
from cxr.serving.ensemble import layers_of, parts_of
from cxr.serving.networks import PackagedNetworks, Part
from cxr.training.run import Run

N_CALIBRATION = 256
"""Training images that the ranges of 8-bit integers are taken from."""


def require_int8() -> None:
    """Raise ConfigError if layers in 8-bit integers cannot be written or run here."""
    require_onnx("--int8")
    if hindrance := int8_hindrance("cpu"):
        raise ConfigError(f"--int8 is not available: {hindrance}.")


def write_int8(
    networks: PackagedNetworks,
    run: Run,
    predictions: pd.DataFrame,
    calibration: Calibration | CalibrationOfFindings,
) -> dict[str, Any]:
    """Write the layers in 8-bit integers, each part calibrated on its training images; return what they cost.

    Args:
        networks: of the package that is being built.
        run: the finished run.
        predictions: its out-of-fold predictions.
        calibration: of every fold.

    Raises:
        PackageError: they cost too much.
    """
    for part, fold in parts_of(networks):
        images = evenly_spread(predictions[predictions["fold"] != fold], N_CALIBRATION)
        inputs = _inputs(networks, part, run.squares(images))
        quantise(layers_of(networks, part, fold), inputs, networks.int8_graph(part, fold))
    compared = evenly_spread(predictions, INT8_COMPARED)
    squares = run.squares(compared)
    labels = _labels(compared, run.outputs)
    cost = measure_int8(networks, calibration, squares, compared["fold"].to_numpy(), labels, run.cache)
    require_tolerable(cost)
    return cost


def _labels(images: pd.DataFrame, outputs: Classes | Findings) -> NDArray[np.float64]:
    if isinstance(outputs, Findings):
        return known_labels(images, outputs)
    return np.eye(len(outputs))[[outputs.index(label) for label in images["label"]]]


@torch.inference_mode()
def _inputs(networks: PackagedNetworks, part: Part, squares: NDArray[np.uint8]) -> Tensor:
    """Return a part's inputs for the images themselves, shape (n, …): their other views have the same range."""
    preprocessing = networks.preprocessing()
    parts = torch.from_numpy(squares).split(BATCH_SIZE)
    batches = [preprocessing.normalise(preprocessing.grey(part)) for part in parts]
    if part == "own" and networks.trainable == "layer4":
        shared = layers_of(networks, "shared", 0)
        batches = [shared(inputs) for inputs in batches]
    return torch.cat(batches)
