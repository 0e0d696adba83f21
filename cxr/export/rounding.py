"""How far coarser arithmetic moves a model's probabilities from float32's: measured once, when it is packaged.

Whoever runs the package decides by these figures, so that an image has the same probability alone, in a batch, in this run
and tomorrow. They are measured on a CPU, which emulates bfloat16 where it lacks it.
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr.config import Arithmetic
from cxr.errors import PackageError
from cxr.metrics.calibration import Calibration, average_folds
from cxr.network.resnet import predict_logits
from cxr.serving.ensemble import Ensemble
from cxr.serving.networks import PackagedNetworks
from cxr.serving.package import TOLERATED_DIFFERENCE

log = logging.getLogger(__name__)

N_COMPARED = 64
INT8_COMPARED = 1000
TOLERATED_SHARE = 0.01
"""If more of the images than this move by more than `TOLERATED_DIFFERENCE`, int8 is refused."""
TOLERATED_AUC_DIFFERENCE = 0.001
"""If ROC-AUC moves by more than this, int8 is refused."""


def measure_rounding(
    networks: PackagedNetworks, calibration: Calibration, squares: NDArray[np.uint8], cache: Path
) -> dict[str, Any]:
    """Return largest_probability_difference and n_images, of bfloat16.

    Args:
        networks: of the folds.
        calibration: of every fold.
        squares: images, shape (n, size, size).
        cache: nothing is written to it.
    """
    fast = _logits(networks, "bf16", squares, cache)
    exact = np.stack([predict_logits(networks.model(fold), squares, "cpu") for fold in range(networks.n_folds)])
    difference = np.abs(average_folds(calibration, fast)[0] - average_folds(calibration, exact)[0]).max()
    log.info("bfloat16 moves a probability by %.4f at most on %d images", difference, len(squares))
    return {"largest_probability_difference": float(difference), "n_images": len(squares)}


def measure_int8(
    networks: PackagedNetworks,
    calibration: Calibration,
    squares: NDArray[np.uint8],
    folds: NDArray[np.int64],
    target: NDArray[np.int64],
    cache: Path,
) -> dict[str, Any]:
    """Return share_moved, largest_probability_difference, largest_auc_difference and n_images, of 8-bit integers.

    Each image is judged by the fold that never saw it: on images of its training a network is surer, and rounding
    moves it less.

    Args:
        networks: of the folds, with layers in 8-bit integers.
        calibration: of every fold.
        squares: images, shape (n, size, size).
        folds: that never saw them, shape (n,).
        target: number of each image's class, shape (n,).
        cache: nothing is written to it.
    """
    from sklearn.metrics import roc_auc_score

    arithmetics: tuple[Arithmetic, ...] = ("fp32", "int8")
    every = np.arange(len(squares))
    exact, coarse = (
        calibration.probability(_logits(networks, arithmetic, squares, cache)[folds, every])
        for arithmetic in arithmetics
    )
    moved = np.abs(coarse - exact).max(axis=1)
    auc_moved = [
        abs(roc_auc_score(target == k, coarse[:, k]) - roc_auc_score(target == k, exact[:, k]))
        for k in np.unique(target)
        if not (target == k).all()
    ]
    found = {
        "share_moved": float((moved > TOLERATED_DIFFERENCE).mean()),
        "largest_probability_difference": float(moved.max()),
        "largest_auc_difference": float(max(auc_moved, default=0.0)),
        "n_images": len(squares),
    }
    log.info("%s", _told(found))
    return found


def require_tolerable(int8: dict[str, Any]) -> None:
    """Raise PackageError where 8-bit integers cost more than is tolerated; takes what `measure_int8` returns."""
    if int8["share_moved"] > TOLERATED_SHARE or int8["largest_auc_difference"] > TOLERATED_AUC_DIFFERENCE:
        raise PackageError(
            f"--int8 is refused: {_told(int8)}; at most {TOLERATED_SHARE:.0%} and {TOLERATED_AUC_DIFFERENCE:g} are "
            "allowed: package the run without it."
        )


def _told(int8: dict[str, Any]) -> str:
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
