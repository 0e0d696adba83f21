"""Out-of-fold predictions: logits, calibration and thresholds that never saw the images they are used on."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import softmax

from cxr.classes import Classes
from cxr.config import OperatingPoint
from cxr.metrics.bootstrap import draw_groups
from cxr.metrics.calibration import Calibration, cross_fit, fit_calibration, fit_thresholds

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class OutOfFold:
    """The out-of-fold table as arrays; of two classes the positive one is last."""

    predictions: pd.DataFrame
    classes: Classes

    @cached_property
    def target(self) -> NDArray[np.int64]:
        """Index of each image's class, shape (n,)."""
        return self.predictions["label"].map({c: k for k, c in enumerate(self.classes)}).to_numpy().astype(np.int64)

    @cached_property
    def fold(self) -> NDArray[np.int64]:
        """The fold that each image was held out in, shape (n,)."""
        return self.predictions["fold"].to_numpy().astype(np.int64)

    @cached_property
    def group(self) -> NDArray[np.int64]:
        """Index of each image's group, shape (n,)."""
        return self.predictions["group_id"].factorize()[0].astype(np.int64)

    @cached_property
    def drawn(self) -> Floats:
        """How often each replicate holds each group, shape (n_replicates, n_groups)."""
        return draw_groups(int(self.group.max()) + 1)

    @cached_property
    def logits(self) -> Floats:
        """Of the fold that never saw the image, shape (n, n_classes)."""
        return self.predictions[[f"logit_{c}" for c in self.classes]].to_numpy(float)

    @cached_property
    def probability(self) -> Floats:
        """As the networks give it, shape (n, n_classes)."""
        return softmax(self.logits, axis=1)

    @cached_property
    def calibrated(self) -> Floats:
        """Calibrated on the other folds, shape (n, n_classes)."""
        return cross_fit(self.logits, self.target, self.fold)

    @cached_property
    def calibration(self) -> Calibration:
        """Fitted on all images: what images that are not among them are calibrated with."""
        return fit_calibration(self.logits, self.target)

    @cached_property
    def thresholds(self) -> dict[OperatingPoint, float]:
        """Chosen on all images, each calibrated by the other folds: for images not among them; empty for more classes."""
        return fit_thresholds(self.calibrated[:, 1], self.target == 1) if self.is_binary else {}

    @property
    def is_binary(self) -> bool:
        """Tell whether there are two classes."""
        return len(self.classes) == 2

    def judged(self) -> Iterator[tuple[str, NDArray[np.bool_], int]]:
        """Yield each class that is judged against the rest: its name, is an image of it (n,), its column."""
        for column, name in enumerate(self.classes):
            if not self.is_binary or column == 1:
                yield name, self.target == column, column
