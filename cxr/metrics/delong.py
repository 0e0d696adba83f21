"""How sure a ROC-AUC is, and whether two differ, without drawing replicates: DeLong's variance, for images in groups.

Images of one patient are alike; with each image a group of its own this is DeLong's variance exactly.

Source: DeLong, DeLong & Clarke-Pearson, Biometrics 1988; Obuchowski, Nonparametric analysis of clustered ROC
curve data, Biometrics 1997; midranks after Sun & Xu, IEEE Signal Process Lett 2014.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, rankdata

from cxr.metrics.bootstrap import CONFIDENCE

Floats = NDArray[np.float64]


class Placements(NamedTuple):
    """Each image's part in the area: the share of images of the other kind that it is ranked rightly against."""

    auc: float
    by_image: Floats
    """Shape (n,)."""


def placements(truth: NDArray[np.bool_], score: Floats) -> Placements:
    """Return the area under the ROC curve (ties count half) and each image's part in it; NaN with one class.

    Args:
        truth: shape (n,), is the image of the class.
        score: shape (n,).
    """
    n_positive, n_negative = truth.sum(), (~truth).sum()
    if not (n_positive and n_negative):
        return Placements(float("nan"), np.full(len(truth), np.nan))
    overall, by_image = rankdata(score), np.empty(len(truth))
    by_image[truth] = (overall[truth] - rankdata(score[truth])) / n_negative
    by_image[~truth] = 1 - (overall[~truth] - rankdata(score[~truth])) / n_positive
    return Placements(float(by_image[truth].mean()), by_image)


def auc_interval(truth: NDArray[np.bool_], score: Floats, group: NDArray[np.int64]) -> tuple[float, float]:
    """Return the 95 % interval of the ROC-AUC, within 0 and 1; NaN where there is no variance to speak of.

    Args:
        truth: shape (n,), is the image of the class.
        score: shape (n,).
        group: shape (n,), index of the image's group.
    """
    auc, by_image = placements(truth, score)
    return _interval(auc, _variance(truth, by_image, auc, group))


def mean_auc_interval(
    truth: NDArray[np.bool_], score: Floats, group: NDArray[np.int64], fold: NDArray[np.int64]
) -> tuple[float, float]:
    """Return the 95 % interval of the mean of the folds' ROC-AUCs, no group being in two folds; NaN as above.

    Args:
        truth: shape (n,), is the image of the class.
        score: shape (n,), of the network that was trained without the image's fold.
        group: shape (n,), index of the image's group.
        fold: shape (n,).
    """
    aucs, variances = [], []
    for inside in (fold == k for k in np.unique(fold)):
        auc, by_image = placements(truth[inside], score[inside])
        aucs.append(auc)
        variances.append(_variance(truth[inside], by_image, auc, group[inside]))
    return _interval(float(np.mean(aucs)), float(np.sum(variances)) / len(aucs) ** 2)


def _interval(auc: float, variance: float) -> tuple[float, float]:
    half = norm.ppf((1 + CONFIDENCE) / 2) * np.sqrt(variance)
    return float(np.maximum(auc - half, 0)), float(np.minimum(auc + half, 1))


def auc_difference(
    truth: NDArray[np.bool_], before: Floats, after: Floats, group: NDArray[np.int64]
) -> tuple[float, float]:
    """Return how much larger the second score's ROC-AUC is on the same images, and the two-sided p value.

    Where the two rank all images alike the difference is 0 and p is 1.

    Args:
        truth: shape (n,), is the image of the class.
        before: shape (n,), one score.
        after: shape (n,), the other.
        group: shape (n,), index of the image's group.
    """
    first, second = placements(truth, before), placements(truth, after)
    difference = second.auc - first.auc
    if np.isnan(difference):
        return float("nan"), float("nan")
    variance = _variance(truth, second.by_image - first.by_image, difference, group)
    if difference == 0 or variance == 0:
        return difference, 1.0 if difference == 0 else 0.0
    return difference, float(2 * norm.sf(abs(difference) / np.sqrt(variance)))


def _variance(truth: NDArray[np.bool_], by_image: Floats, mean: float, group: NDArray[np.int64]) -> float:
    """Return the variance of the images' mean part (the mean over positives equals that over negatives)."""
    sums = []
    for kind in (truth, ~truth):
        members = np.unique(group[kind], return_inverse=True)[1]
        deviation = np.bincount(group, np.where(kind, by_image - mean, 0.0))
        n_groups = members.max(initial=-1) + 1
        scale = n_groups / (n_groups - 1) if n_groups > 1 else np.nan
        sums.append((deviation, scale, kind.sum()))
    (positive, scale_p, n_p), (negative, scale_n, n_n) = sums
    n_groups = len(np.unique(group))
    both = n_groups / (n_groups - 1) if n_groups > 1 else np.nan
    variance = (
        scale_p * (positive**2).sum() / n_p**2
        + scale_n * (negative**2).sum() / n_n**2
        + 2 * both * (positive * negative).sum() / (n_p * n_n)
    )
    return float(max(variance, 0.0)) if not np.isnan(variance) else float("nan")
