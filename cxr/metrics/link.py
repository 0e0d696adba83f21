"""From logits to probabilities: classes share the probability of an image, each finding has its own."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax

from cxr.classes import Link


def probabilities(logits: NDArray[np.float64], link: Link) -> NDArray[np.float64]:
    """Return the probability of each class or finding, of the logits' shape (…, n_outputs)."""
    return softmax(logits, axis=-1) if link == "softmax" else expit(logits)
