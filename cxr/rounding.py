"""How far bfloat16 moves a model's probabilities from float32's: measured once, when it is packaged.

Whoever runs the package decides by this one figure, so that a film has the same probability alone, in a batch, tonight
and tomorrow. It is measured on a CPU, which emulates bfloat16 where it lacks it.
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr.calibration import Calibration, average_folds
from cxr.ensemble import Ensemble, Networks
from cxr.model import predict_logits

log = logging.getLogger(__name__)

TOLERATED_DIFFERENCE = 0.01
"""If a film's probability moves by more than this against float32, bfloat16 is refused."""
N_COMPARED = 64


def measure_rounding(
    networks: Networks, calibration: Calibration, squares: NDArray[np.uint8], cache: Path
) -> dict[str, Any]:
    """Return largest_probability_difference and n_films.

    Args:
        networks: of the folds.
        calibration: of every fold.
        squares: films, shape (n, size, size).
        cache: nothing is written to it.
    """
    fast = Ensemble(networks, device="cpu", bf16=True, n_films=0, compile="off", cache=cache).run(squares)[0]
    exact = np.stack([predict_logits(networks.model(fold), squares, "cpu") for fold in range(networks.n_folds)])
    difference = np.abs(average_folds(calibration, fast)[0] - average_folds(calibration, exact)[0]).max()
    log.info("bfloat16 moves a probability by %.4f at most on %d films", difference, len(squares))
    return {"largest_probability_difference": float(difference), "n_films": len(squares)}
