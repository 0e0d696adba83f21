"""How sure a metric is: percentile intervals from a bootstrap over groups of images.

Images of one patient are alike, so groups (patients), not images, are drawn with replacement; drawing images
would make intervals too narrow. All replicates are computed at once from how often each group was drawn.

Source: Field & Welsh, Bootstrapping clustered data, J R Stat Soc B 2007; Efron & Tibshirani 1993, ch. 13.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

N_REPLICATES = 2000
CONFIDENCE = 0.95
CHUNK = 100


def draw_groups(n_groups: int, *, seed: int = 0) -> NDArray[np.float64]:
    """Return how often each replicate holds each group, shape (N_REPLICATES, n_groups); rows sum to n_groups.

    One group alone says nothing of how groups differ: all is NaN, and so are intervals.
    """
    if n_groups == 1:
        return np.full((N_REPLICATES, 1), np.nan)
    generator = np.random.default_rng(seed)
    return generator.multinomial(n_groups, np.full(n_groups, 1 / n_groups), N_REPLICATES).astype(np.float64)


def replicate_metrics(
    truth: NDArray[np.bool_],
    predicted: NDArray[np.bool_],
    probability: NDArray[np.float64],
    group: NDArray[np.int64],
    drawn_RG: NDArray[np.float64],
) -> dict[str, NDArray[np.float64]]:
    """Return each metric of one class against the rest in every replicate, shape (R,); NaN where undefined.

    Args:
        truth: shape (n,), is the image of the class.
        called: shape (n,), is it called so.
        probability: shape (n,), of the class.
        group: shape (n,), index of the image's group, 0 to G - 1.
        drawn_RG: how often each group is in each replicate.
    """
    drawn_RG = _unless_one_group(group, drawn_RG)
    cells = (truth & predicted, ~truth & predicted, ~truth & ~predicted, truth & ~predicted)
    counts_G4 = np.stack([np.bincount(group, cell, drawn_RG.shape[1]) for cell in cells], axis=1)
    tp, fp, tn, fn = (drawn_RG @ counts_G4).T
    roc_auc, average_precision = _rank_metrics(truth, probability, group, drawn_RG)
    with np.errstate(invalid="ignore"):
        sensitivity, specificity = tp / (tp + fn), tn / (tn + fp)
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
    truth: NDArray[np.bool_], probability: NDArray[np.float64], group: NDArray[np.int64], drawn_RG: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return ROC-AUC (ties count half) and average precision in every replicate, each of shape (R,)."""
    order = np.argsort(-probability, kind="stable")
    starts = np.flatnonzero(np.diff(probability[order], prepend=np.inf))  # images of equal score are one step
    roc_auc, average_precision = [], []
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


def _unless_one_group(group: NDArray[np.int64], drawn_RG: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the draws, NaN throughout where the images are all of one group."""
    return drawn_RG if len(np.unique(group)) > 1 else np.full_like(drawn_RG, np.nan)


def replicate_accuracy(
    correct: NDArray[np.bool_], group: NDArray[np.int64], drawn_RG: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the share of correct images in every replicate, shape (R,), for any number of classes."""
    drawn_RG = _unless_one_group(group, drawn_RG)
    n_groups = drawn_RG.shape[1]
    return (drawn_RG @ np.bincount(group, correct, n_groups)) / (drawn_RG @ np.bincount(group, minlength=n_groups))


def average_replicates(by_class: Sequence[dict[str, NDArray[np.float64]]]) -> dict[str, NDArray[np.float64]]:
    """Return the mean of each metric over classes in every replicate: the macro average."""
    return {name: np.mean([values[name] for values in by_class], axis=0) for name in by_class[0]}


def percentile_interval(replicates: NDArray[np.float64]) -> tuple[float, float]:
    """Return the bounds that enclose the middle 95 % of the replicates; those that are undefined do not count."""
    tail = 100 * (1 - CONFIDENCE) / 2
    defined = replicates[~np.isnan(replicates)]
    if not len(defined):
        return float("nan"), float("nan")
    low, high = np.percentile(defined, [tail, 100 - tail])
    return float(low), float(high)
