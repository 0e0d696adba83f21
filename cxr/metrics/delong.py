"""DeLong's interval of a ROC-AUC and his test of two, for images in groups; nothing is drawn.

Images of one patient are alike, so the variance is over patients. Where each image is a group of its own, it is
DeLong's variance exactly.

Source: DeLong, DeLong & Clarke-Pearson, Biometrics 1988; Obuchowski, Nonparametric analysis of clustered ROC
curve data, Biometrics 1997; midranks after Sun & Xu, IEEE Signal Process Lett 2014.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from cxr.metrics.bootstrap import CONFIDENCE

Floats = NDArray[np.float64]


class Placements(NamedTuple):
    """The ROC-AUC and each image's contribution: the share of the other kind that it is ranked correctly with."""

    auc: float
    by_image: Floats
    """Shape (n,)."""


def placements(truth: NDArray[np.bool_], score: Floats) -> Placements:
    """Return the ROC-AUC (ties count half) and each image's contribution to it; NaN if all belong to one class.

    Args:
        truth: shape (n,), whether the image belongs to the class.
        score: shape (n,).
    """
    from scipy.stats import rankdata  # takes a second, and most commands rank nothing

    n_positive, n_negative = truth.sum(), (~truth).sum()
    if not (n_positive and n_negative):
        return Placements(float("nan"), np.full(len(truth), np.nan))
    overall = rankdata(score)
    by_image = np.empty(len(truth))
    by_image[truth] = (overall[truth] - rankdata(score[truth])) / n_negative
    by_image[~truth] = 1 - (overall[~truth] - rankdata(score[~truth])) / n_positive
    return Placements(float(by_image[truth].mean()), by_image)


def auc_interval(truth: NDArray[np.bool_], score: Floats, group: NDArray[np.int64]) -> tuple[float, float]:
    """Return the 95% interval of the ROC-AUC, clipped to 0 and 1; NaN where its variance is undefined.

    Args:
        truth: shape (n,), whether the image belongs to the class.
        score: shape (n,).
        group: shape (n,), index of the image's group.
    """
    auc, by_image = placements(truth, score)
    return _interval(auc, _variance(truth, by_image, auc, group))


def mean_auc_interval(
    truth: NDArray[np.bool_], score: Floats, group: NDArray[np.int64], fold: NDArray[np.int64]
) -> tuple[float, float]:
    """Return the 95% interval of the mean of the folds' ROC-AUCs, clipped to 0 and 1; NaN where a fold's is undefined.

    No group may be in two folds: their variances are added.

    Args:
        truth: shape (n,), whether the image belongs to the class.
        score: shape (n,), of the network that was trained without the image's fold.
        group: shape (n,), index of the image's group.
        fold: shape (n,).
    """
    aucs: list[float] = []
    variances: list[float] = []
    for inside in (fold == k for k in np.unique(fold)):
        auc, by_image = placements(truth[inside], score[inside])
        aucs.append(auc)
        variances.append(_variance(truth[inside], by_image, auc, group[inside]))
    return _interval(float(np.mean(aucs)), float(np.sum(variances)) / len(aucs) ** 2)


def _interval(auc: float, variance: float) -> tuple[float, float]:
    half = ndtri((1 + CONFIDENCE) / 2) * np.sqrt(variance)
    return float(np.maximum(auc - half, 0)), float(np.minimum(auc + half, 1))


def auc_difference(
    truth: NDArray[np.bool_], before: Floats, after: Floats, group: NDArray[np.int64]
) -> tuple[float, float]:
    """Return the second score's ROC-AUC less the first's, on the same images, and the two-sided p value.

    The p value is 1 where both rank all images alike. NaN if all images belong to one class.

    Args:
        truth: shape (n,), whether the image belongs to the class.
        before: shape (n,), the first score.
        after: shape (n,), the second score.
        group: shape (n,), index of the image's group.
    """
    first = placements(truth, before)
    second = placements(truth, after)
    difference = second.auc - first.auc
    if np.isnan(difference):
        return float("nan"), float("nan")
    variance = _variance(truth, second.by_image - first.by_image, difference, group)
    if difference == 0 or variance == 0:
        return difference, 1.0 if difference == 0 else 0.0
    return difference, float(2 * ndtr(-abs(difference) / np.sqrt(variance)))


def _variance(truth: NDArray[np.bool_], by_image: Floats, mean: float, group: NDArray[np.int64]) -> float:
    """Return the variance of the mean contribution, which is the same over positives and over negatives."""
    if truth.all() or not truth.any():
        return float("nan")
    sums = []
    for kind in (truth, ~truth):
        members = np.unique(group[kind], return_inverse=True)[1]
        deviation = np.bincount(group, np.where(kind, by_image - mean, 0.0))
        n_groups = members.max(initial=-1) + 1
        scale = n_groups / (n_groups - 1) if n_groups > 1 else np.nan
        sums.append((deviation, scale, kind.sum()))
    (positive, scale_p, n_p), (negative, scale_n, n_n) = sums
    n_groups = len(np.unique(group))
    scale = n_groups / (n_groups - 1) if n_groups > 1 else np.nan
    variance = (
        scale_p * (positive**2).sum() / n_p**2
        + scale_n * (negative**2).sum() / n_n**2
        + 2 * scale * (positive * negative).sum() / (n_p * n_n)
    )
    return float(max(variance, 0.0)) if not np.isnan(variance) else float("nan")
