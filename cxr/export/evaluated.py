"""How a package's networks predict held-out images, in the arithmetic that the package scores in."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from cxr.evaluation.findings import FindingsOutOfFold, out_of_fold_of
from cxr.evaluation.out_of_fold import OutOfFold
from cxr.network.acceleration import accelerate
from cxr.network.devices import resolve_device
from cxr.network.resnet import BATCH_SIZE, Classifier
from cxr.serving.networks import PackagedNetworks
from cxr.storage import verified
from cxr.training.run import Run

Features = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""A function from grey squares, shape (n, size, size), to features, shape (n, n_features)."""


@dataclass(frozen=True)
class Evaluated:
    """What calibration, thresholds, metrics and the measure of novelty of a package are made from."""

    out_of_fold: OutOfFold | FindingsOutOfFold
    summary: pd.DataFrame
    """Of these predictions, as `cxr.evaluation.tables.summary_of` returns it."""
    features: Features
    """Of fold 0's network."""
    judged: dict[str, Any] = field(default_factory=dict)
    """`int8` of package.json, if the networks compute in 8-bit integers."""


def in_float32(networks: PackagedNetworks, run: Run) -> Evaluated:
    """Return how the networks of a finished run predict."""
    predictions = verified.read_table(run.folder.predictions)
    summary = verified.read_table(run.folder.summary)
    return Evaluated(out_of_fold_of(predictions, run.outputs), summary, features_of(networks.model(0), run))


def features_of(model: Classifier, run: Run) -> Features:
    """Return the function that a fold's network computes features with: everything in front of its last layer."""
    device = resolve_device("auto")  # the machine need not have those that it was trained on
    preprocessing = model.preprocessing.to(device)
    trunk, _ = model.stages("head")
    forward: Callable[[Tensor], Tensor] = accelerate(
        lambda: trunk,
        "a fold of a package in the making",
        device,
        bf16=False,
        n_images=0,
        compile="off",
        cache=run.cache,
    )

    def features(squares: NDArray[np.uint8]) -> NDArray[np.float32]:
        parts = torch.from_numpy(squares).split(BATCH_SIZE)
        outputs = (forward(preprocessing.inputs(part.to(device))) for part in parts)
        return torch.cat([preprocessing.mean_over_views(output) for output in outputs]).cpu().numpy()

    return features
