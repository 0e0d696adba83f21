"""What a network is trained towards: labels as its loss takes them, and the weight of each.

For classes the loss has a term for each class. For findings it has two for each, for its absence and its presence, and
an unknown label has no share in either: it neither adds to the loss nor to the weight that the loss is divided by.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from cxr.classes import Classes, Findings
from cxr.dataset.findings import known_labels
from cxr.training.fold.loss import soft_findings, soft_labels
from cxr.training.fold.optimiser import class_weights


@dataclass(frozen=True)
class Objective:
    """The labels of a run's images, for its loss."""

    outputs: Classes | Findings

    def targets(self, images: pd.DataFrame) -> Tensor:
        """Return the labels: class indices, shape (n,), or findings, shape (n, n_findings), NaN where unknown.

        Args:
            images: column label, or finding_<name>.
        """
        if isinstance(self.outputs, Findings):
            return torch.from_numpy(known_labels(images, self.outputs)).float()
        return torch.tensor([self.outputs.index(label) for label in images["label"]])

    def weights(self, targets: Tensor, *, balanced: bool) -> list[float]:
        """Return the weight of each term of the loss, from the labels of all training images.

        Args:
            targets: as `targets` returns them.
            balanced: rare labels weigh more; else all weigh 1.
        """
        if isinstance(self.outputs, Findings):
            return finding_weights(targets.numpy()) if balanced else [1.0] * 2 * len(self.outputs)
        return class_weights(targets.tolist(), len(self.outputs)) if balanced else [1.0] * len(self.outputs)

    def soft_labels(self, targets_B: Tensor, smoothing: float) -> Tensor:
        """Return the shares that each image's label has in the terms of the loss, shape (B, n_terms)."""
        if isinstance(self.outputs, Findings):
            return soft_findings(targets_B, smoothing)
        return soft_labels(targets_B, len(self.outputs), smoothing)


def finding_weights(labels_NK: NDArray[np.float32]) -> list[float]:
    """Return n_known / (2 · n) for the absence of each finding, then for the presence of each.

    The mean weight of a known label is 1 for every finding, so each has the same share in the loss of its images. The
    weight of what no image shows is 0.

    Args:
        labels_NK: 1 where present, 0 where absent, NaN where unknown.
    """
    n_known = (~np.isnan(labels_NK)).sum(axis=0)
    counts = [(labels_NK == state).sum(axis=0) for state in (0, 1)]
    return np.concatenate([np.where(n > 0, n_known / (2 * np.maximum(n, 1)), 0.0) for n in counts]).tolist()
