"""How far bfloat16 moves a model's probabilities from float32's, measured when the model is packaged.

Serving chooses the arithmetic from this figure alone, so an image gets the same probability by itself, in a batch,
today and tomorrow. It is measured on a CPU, which emulates bfloat16 if it does not support it.
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr.metrics.calibration import Calibration, CalibrationOfFindings, average_folds
from cxr.network.resnet import predict_logits
from cxr.serving.ensemble import Ensemble
from cxr.serving.networks import PackagedNetworks

log = logging.getLogger(__name__)

N_COMPARED = 64
"""Images that bfloat16 is measured on."""


def measure_rounding(
    networks: PackagedNetworks,
    calibration: Calibration | CalibrationOfFindings,
    squares: NDArray[np.uint8],
    cache: Path,
) -> dict[str, Any]:
    """Return what bfloat16 costs: largest_probability_difference and n_images.

    Args:
        networks: of the folds.
        calibration: of every fold.
        squares: shape (n, size, size).
        cache: not written to.
    """
    fast = Ensemble(networks, device="cpu", arithmetic="bf16", n_images=0, compile="off", cache=cache).run(squares)[0]
    exact = np.stack([predict_logits(networks.model(fold), squares, "cpu") for fold in range(networks.n_folds)])
    difference = np.abs(average_folds(calibration, fast)[0] - average_folds(calibration, exact)[0]).max()
    log.info("bfloat16 moves a probability by %.4f at most on %d images", difference, len(squares))
    return {"largest_probability_difference": float(difference), "n_images": len(squares)}


def evenly_spread(images: pd.DataFrame, n: int) -> pd.DataFrame:
    """Return n images, evenly spread over the table; all of them if there are fewer."""
    return images.iloc[np.linspace(0, len(images) - 1, min(n, len(images)), dtype=int)]
