"""How far coarser arithmetic moves a model's probabilities from float32's, measured when the model is packaged.

Serving chooses the arithmetic from these figures alone, so an image gets the same probability by itself, in a batch,
today and tomorrow. They are measured on a CPU, which emulates bfloat16 if it does not support it.
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr.config import Arithmetic
from cxr.errors import PackageError
from cxr.metrics.calibration import Calibration, CalibrationOfFindings, average_folds
from cxr.network.resnet import predict_logits
from cxr.serving.ensemble import Ensemble
from cxr.serving.networks import PackagedNetworks
from cxr.serving.package import TOLERATED_DIFFERENCE

log = logging.getLogger(__name__)

N_COMPARED = 64
"""Images that bfloat16 is measured on."""
INT8_COMPARED = 1000
"""Images that 8-bit integers are measured on."""
TOLERATED_SHARE = 0.01
"""8-bit integers are refused if the probability of a larger share of images moves by over `TOLERATED_DIFFERENCE`."""
TOLERATED_AUC_DIFFERENCE = 0.001
"""8-bit integers are refused if ROC-AUC moves by more than this."""


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
    fast = _logits(networks, "bf16", squares, cache)
    exact = np.stack([predict_logits(networks.model(fold), squares, "cpu") for fold in range(networks.n_folds)])
    difference = np.abs(average_folds(calibration, fast)[0] - average_folds(calibration, exact)[0]).max()
    log.info("bfloat16 moves a probability by %.4f at most on %d images", difference, len(squares))
    return {"largest_probability_difference": float(difference), "n_images": len(squares)}


def measure_int8(
    networks: PackagedNetworks,
    calibration: Calibration | CalibrationOfFindings,
    squares: NDArray[np.uint8],
    folds: NDArray[np.int64],
    labels: NDArray[np.float64],
    cache: Path,
) -> dict[str, Any]:
    """Return what 8-bit integers cost: share_moved, largest_probability_difference, largest_auc_difference, n_images.

    Each image is predicted by the fold that never saw it: a network is more confident on its training images, and
    rounding moves those less.

    Args:
        networks: of the folds, with layers in 8-bit integers.
        calibration: of every fold.
        squares: shape (n, size, size).
        folds: the fold that never saw each image, shape (n,).
        labels: whether each class or finding is present, shape (n, n_outputs): 1, 0, or NaN where unknown.
        cache: not written to.
    """
    from sklearn.metrics import roc_auc_score

    every = np.arange(len(squares))
    exact = calibration.probability(_logits(networks, "fp32", squares, cache)[folds, every])
    coarse = calibration.probability(_logits(networks, "int8", squares, cache)[folds, every])
    moved = np.abs(coarse - exact).max(axis=1)
    known = ~np.isnan(labels)
    auc_moved = [
        abs(roc_auc_score(labels[rows, k], coarse[rows, k]) - roc_auc_score(labels[rows, k], exact[rows, k]))
        for k, rows in enumerate(known.T)
        if len(np.unique(labels[rows, k])) == 2
    ]
    cost = {
        "share_moved": float((moved > TOLERATED_DIFFERENCE).mean()),
        "largest_probability_difference": float(moved.max()),
        "largest_auc_difference": float(max(auc_moved, default=0.0)),
        "n_images": len(squares),
    }
    log.info("%s", _sentence(cost))
    return cost


def require_tolerable(int8: dict[str, Any]) -> None:
    """Raise PackageError if 8-bit integers cost too much, by what `measure_int8` returned."""
    if fault := int8_fault(int8):
        raise PackageError(f"--int8 is refused: {fault}: package the run without it.")


def int8_fault(int8: dict[str, Any]) -> str | None:
    """Return what speaks against 8-bit integers, by what `measure_int8` returned; None if they may be used."""
    if int8["share_moved"] <= TOLERATED_SHARE and int8["largest_auc_difference"] <= TOLERATED_AUC_DIFFERENCE:
        return None
    return f"{_sentence(int8)}; at most {TOLERATED_SHARE:.0%} and {TOLERATED_AUC_DIFFERENCE:g} are allowed"


def evenly_spread(images: pd.DataFrame, n: int) -> pd.DataFrame:
    """Return n images, evenly spread over the table; all of them if there are fewer."""
    return images.iloc[np.linspace(0, len(images) - 1, min(n, len(images)), dtype=int)]


def _sentence(int8: dict[str, Any]) -> str:
    return (
        f"8-bit integers move the probability of {int8['share_moved']:.1%} of {int8['n_images']:,} images by more than "
        f"{TOLERATED_DIFFERENCE:g} (at most by {int8['largest_probability_difference']:.3f}) and ROC-AUC by "
        f"{int8['largest_auc_difference']:.4f}"
    )


def _logits(
    networks: PackagedNetworks, arithmetic: Arithmetic, squares: NDArray[np.uint8], cache: Path
) -> NDArray[np.float64]:
    ensemble = Ensemble(networks, device="cpu", arithmetic=arithmetic, n_images=0, compile="off", cache=cache)
    return ensemble.run(squares)[0]
