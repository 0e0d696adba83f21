"""Bootstrap intervals: groups of images are drawn with replacement, and percentiles of the replicates are the bounds.

Images of one patient are alike, so patients (groups) are drawn, not images: drawing images would make intervals too
narrow. All replicates are computed at once, from how often each group was drawn.

Source: Field & Welsh, Bootstrapping clustered data, J R Stat Soc B 2007; Efron & Tibshirani 1993, ch. 13.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

N_REPLICATES = 2000
CONFIDENCE = 0.95
CHUNK = 100
"""Replicates whose rank metrics are computed at once."""
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Replicates:
    """The replicates of one set of images. Metrics computed from the same draws can be subtracted: they are paired."""

    group: NDArray[np.int64]
    """Index of each image's group, shape (n,), from 0 to G - 1."""
    drawn: Floats
    """How often each replicate holds each group, shape (R, G)."""

    @classmethod
    def of(cls, group_ids: pd.Series, *, seed: int = 0) -> Self:
        """Draw the groups of images, shape (n,)."""
        group = group_ids.factorize()[0].astype(np.int64)
        return cls(group, draw_groups(int(group.max()) + 1, seed=seed))

    def part(self, rows: NDArray[np.bool_]) -> Self:
        """Return the same draws for some of the images, chosen by a mask of shape (n,)."""
        return type(self)(self.group[rows], self.drawn)

    def metrics(self, truth: NDArray[np.bool_], predicted: NDArray[np.bool_], probability: Floats) -> dict[str, Floats]:
        """Return each metric of one class in every replicate, as `replicate_metrics` does."""
        return replicate_metrics(truth, predicted, probability, self.group, self.drawn)

    def mean(self, values: NDArray[np.bool_] | Floats) -> Floats:
        """Return the mean of a value over images in every replicate, as `replicate_mean` does."""
        return replicate_mean(values, self.group, self.drawn)


def draw_groups(n_groups: int, *, seed: int = 0) -> Floats:
    """Return how often each replicate holds each group, shape (N_REPLICATES, n_groups); rows sum to n_groups.

    A single group does not show how groups differ: all draws are NaN, and so are all intervals.
    """
    if n_groups == 1:
        return np.full((N_REPLICATES, 1), np.nan)
    generator = np.random.default_rng(seed)
    return generator.multinomial(n_groups, np.full(n_groups, 1 / n_groups), N_REPLICATES).astype(np.float64)


def replicate_metrics(
    truth: NDArray[np.bool_],
    predicted: NDArray[np.bool_],
    probability: Floats,
    group: NDArray[np.int64],
    drawn_RG: Floats,
) -> dict[str, Floats]:
    """Return each metric of one class against the rest in every replicate, shape (R,); NaN where undefined.

    Args:
        truth: shape (n,), whether the image belongs to the class.
        predicted: shape (n,), whether it is predicted to.
        probability: shape (n,), of the class.
        group: shape (n,), index of the image's group, from 0 to G - 1.
        drawn_RG: how often each replicate holds each group.
    """
    drawn_RG = _unless_one_group(group, drawn_RG)
    cells = (truth & predicted, ~truth & predicted, ~truth & ~predicted, truth & ~predicted)
    counts_G4 = np.stack([np.bincount(group, cell, drawn_RG.shape[1]) for cell in cells], axis=1)
    tp, fp, tn, fn = (drawn_RG @ counts_G4).T
    roc_auc, average_precision = _rank_metrics(truth, probability, group, drawn_RG)
    with np.errstate(invalid="ignore"):
        sensitivity = tp / (tp + fn)
        specificity = tn / (tn + fp)
        return {
            "accuracy": (tp + tn) / (tp + fp + tn + fn),
            "balanced_accuracy": (sensitivity + specificity) / 2,
            "precision": tp / (tp + fp),
            "sensitivity": sensitivity,
            "specificity": specificity,
            "f1": 2 * tp / (2 * tp + fp + fn),
            "roc_auc": roc_auc,
            "average_precision": average_precision,
        }


def _rank_metrics(
    truth: NDArray[np.bool_], probability: Floats, group: NDArray[np.int64], drawn_RG: Floats
) -> tuple[Floats, Floats]:
    """Return ROC-AUC (ties count half) and average precision in every replicate, each of shape (R,)."""
    order = np.argsort(-probability, kind="stable")
    starts = np.flatnonzero(np.diff(probability[order], prepend=np.inf))  # images of equal score are one step
    roc_auc: list[Floats] = []
    average_precision: list[Floats] = []
    for first in range(0, len(drawn_RG), CHUNK):
        weight_Rn = drawn_RG[first : first + CHUNK, group[order]]
        positive_RU = np.add.reduceat(weight_Rn * truth[order], starts, axis=1)
        negative_RU = np.add.reduceat(weight_Rn * ~truth[order], starts, axis=1)
        n_positive, n_negative = positive_RU.sum(axis=1), negative_RU.sum(axis=1)
        above_RU = negative_RU.cumsum(axis=1) - negative_RU / 2  # negatives ranked higher, ties half
        found_RU = positive_RU.cumsum(axis=1)
        with np.errstate(invalid="ignore"):
            roc_auc.append(1 - (positive_RU * above_RU).sum(axis=1) / (n_positive * n_negative))
            precision_RU = found_RU / (found_RU + negative_RU.cumsum(axis=1))
            average_precision.append((positive_RU * np.nan_to_num(precision_RU)).sum(axis=1) / n_positive)
    return np.concatenate(roc_auc), np.concatenate(average_precision)


def _unless_one_group(group: NDArray[np.int64], drawn_RG: Floats) -> Floats:
    """Return the draws; all NaN where the images belong to one group."""
    return drawn_RG if len(np.unique(group)) > 1 else np.full_like(drawn_RG, np.nan)


def replicate_mean(values: NDArray[np.bool_] | Floats, group: NDArray[np.int64], drawn_RG: Floats) -> Floats:
    """Return the mean of a value over images in every replicate, shape (R,): of whether they are right, the accuracy.

    Args:
        values: shape (n,).
        group: shape (n,), index of the image's group, from 0 to G - 1.
        drawn_RG: how often each replicate holds each group.
    """
    drawn_RG = _unless_one_group(group, drawn_RG)
    n_groups = drawn_RG.shape[1]
    return (drawn_RG @ np.bincount(group, values, n_groups)) / (drawn_RG @ np.bincount(group, minlength=n_groups))


def average_replicates(by_class: Sequence[dict[str, Floats]]) -> dict[str, Floats]:
    """Return the macro average in every replicate: each metric's mean over classes, shape (R,)."""
    return {name: np.mean([values[name] for values in by_class], axis=0) for name in by_class[0]}


def percentile_interval(replicates: Floats) -> tuple[float, float]:
    """Return the bounds of the middle 95% of the replicates; undefined replicates are left out, NaN if all are."""
    tail = 100 * (1 - CONFIDENCE) / 2
    defined = replicates[~np.isnan(replicates)]
    if not len(defined):
        return float("nan"), float("nan")
    low, high = np.percentile(defined, [tail, 100 - tail])
    return float(low), float(high)
