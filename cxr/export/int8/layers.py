"""The layers of a package in 8-bit integers: written beside those in float32, with ranges from training images."""

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from cxr.errors import ConfigError
from cxr.export.rounding import evenly_spread
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


def write_int8_layers(networks: PackagedNetworks, run: Run, predictions: pd.DataFrame) -> None:
    """Write the layers in 8-bit integers, the ranges of each part taken from its training images.

    The convolution that sees the image itself stays in float32: it costs little, and its rounding is felt most.
    """
    first, _ = parts_of(networks)[0]
    for part, fold in parts_of(networks):
        images = evenly_spread(predictions[predictions["fold"] != fold], N_CALIBRATION)
        inputs = _inputs(networks, part, run.squares(images))
        layers = layers_of(networks, part, fold)
        quantise(layers, inputs, networks.int8_graph(part, fold), first_in_float=part == first)


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
