"""Out-of-fold predictions as arrays: each image predicted, calibrated and thresholded without its own fold.

Of predictions that were made elsewhere the folds may be unknown. Then the images are divided into parts, for
calibration and thresholds alone: each part takes the place of a fold there, and nowhere else.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import softmax

from cxr.classes import Classes
from cxr.config import OperatingPoint
from cxr.metrics.bootstrap import Floats, Replicates
from cxr.metrics.calibration import (
    Calibration,
    calibrate_folds,
    fit_calibration,
    fit_thresholds,
    fit_without_each_fold,
    predict_labels,
)


@dataclass(frozen=True)
class OutOfFold:
    """The out-of-fold table as arrays, computed when they are first asked for."""

    predictions: pd.DataFrame
    classes: Classes
    shared: Replicates | None = None
    """Draws that other predictions on these patients have as well; None for draws of its own."""

    @cached_property
    def target(self) -> NDArray[np.int64]:
        """Index of each image's class, shape (n,)."""
        return self.predictions["label"].map({c: k for k, c in enumerate(self.classes)}).to_numpy().astype(np.int64)

    @cached_property
    def fold(self) -> NDArray[np.int64]:
        """The fold that each image was held out in, shape (n,)."""
        return self.predictions["fold"].to_numpy().astype(np.int64)

    @property
    def has_folds(self) -> bool:
        """Return whether it is known which fold held out each image."""
        return bool(self.predictions["fold"].notna().all())

    @cached_property
    def part(self) -> NDArray[np.int64]:
        """The images that each was calibrated and thresholded without, shape (n,): its fold, or its `part`."""
        return self.fold if self.has_folds else self.predictions["part"].to_numpy().astype(np.int64)

    @cached_property
    def replicates(self) -> Replicates:
        """Draws of the images' groups, the same for every metric."""
        return self.shared or Replicates.of(self.predictions["group_id"])

    @property
    def group(self) -> NDArray[np.int64]:
        """Index of each image's group, shape (n,)."""
        return self.replicates.group

    @property
    def drawn(self) -> Floats:
        """How often each replicate holds each group, shape (n_replicates, n_groups)."""
        return self.replicates.drawn

    @cached_property
    def logits(self) -> Floats:
        """Logits of the fold that never saw the image, shape (n, n_classes)."""
        return self.predictions[self.classes.logit_columns].to_numpy(float)

    @cached_property
    def probability(self) -> Floats:
        """Softmax of the logits, before calibration, shape (n, n_classes)."""
        return softmax(self.logits, axis=1)

    @cached_property
    def calibrations(self) -> dict[int, Calibration]:
        """The calibration of each part (fold), fitted on the other parts."""
        return fit_without_each_fold(self.logits, self.target, self.part)

    @cached_property
    def calibrated(self) -> Floats:
        """Probabilities calibrated on the other parts (folds), shape (n, n_classes)."""
        return calibrate_folds(self.calibrations, self.logits, self.part)

    @cached_property
    def calibration(self) -> Calibration:
        """The calibration fitted on all images, for images that are not among them."""
        return fit_calibration(self.logits, self.target)

    @cached_property
    def thresholds(self) -> dict[OperatingPoint, float]:
        """Thresholds chosen on all images, for images that are not among them; empty for more than two classes."""
        if not self.is_binary:
            return {}
        return fit_thresholds(self.calibrated[:, 1], self.target == 1, self.calibration.balanced)

    @property
    def is_binary(self) -> bool:
        """Return whether there are two classes."""
        return self.classes.is_binary

    def one_vs_rest(self) -> Iterator[tuple[str, NDArray[np.bool_], int]]:
        """Yield each evaluated class: its name, whether each image belongs to it, shape (n,), and its column."""
        for name in self.classes.evaluated:
            column = self.classes.index(name)
            yield name, self.target == column, column


def predicted_images(
    predictions: pd.DataFrame, classes: Classes
) -> tuple[NDArray[np.str_], NDArray[np.str_], NDArray[np.float64]]:
    """Return the true classes, shape (n,), the predicted ones, shape (n,), and the probabilities, shape (n, n_classes).

    Args:
        predictions: columns label and probability_<class>; a class is predicted at probability 0.5.
        classes: in output order.
    """
    probability = predictions[classes.probability_columns].to_numpy()
    return predictions["label"].to_numpy(dtype=str), predict_labels(probability, classes), probability
