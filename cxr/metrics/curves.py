"""Curves with bands: ROC, precision-recall, reliability and net benefit.

Bands are pointwise 95% intervals from a bootstrap over groups of images (patients).

Source: Fawcett, An introduction to ROC analysis, Pattern Recognit Lett 2006; Davis & Goadrich, ICML 2006
(precision is not interpolated between two recalls); Vickers & Elkin, Decision curve analysis, Med Decis
Making 2006.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxr.metrics.bootstrap import percentile_interval

GRID = np.unique(np.concatenate([np.linspace(0, 0.1, 101), np.linspace(0.1, 1, 181)]))
"""The rates and recalls at which curves are read off: closer together where good classifiers differ."""
N_BANDS = 500
"""Replicates of a curve: fewer than for single numbers, as each is a whole curve."""
N_BINS = 10
"""Bins of a reliability curve."""
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """Values at the points of `x`, with the pointwise 95% band around them; all of shape (len(x),)."""

    x: Floats
    y: Floats
    low: Floats
    high: Floats


def roc_curve(truth: NDArray[np.bool_], probability: Floats, group: NDArray[np.int64], drawn_RG: Floats) -> Curve:
    """Return sensitivity at each false positive rate of GRID; NaN if all images belong to one class.

    Args:
        truth: shape (n,), whether the image belongs to the class.
        probability: shape (n,), of the class.
        group: shape (n,), index of the image's group.
        drawn_RG: how often each replicate holds each group; the first N_BANDS are used. Without one, bounds are NaN.
    """

    def at_grid(positive: Floats, negative: Floats) -> Floats:
        if not (positive.sum() and negative.sum()):
            return np.full(len(GRID), np.nan)
        sensitivity, rate = (np.append(0, part.cumsum()) / part.sum() for part in (positive, negative))
        return np.interp(GRID, *_upper(rate, sensitivity))

    return _with_band(truth, probability, group, drawn_RG, at_grid)


def precision_recall_curve(
    truth: NDArray[np.bool_], probability: Floats, group: NDArray[np.int64], drawn_RG: Floats
) -> Curve:
    """Return precision at the highest threshold that reaches each recall of GRID; NaN without images of the class.

    Args: as for `roc_curve`.
    """

    def at_grid(positive: Floats, negative: Floats) -> Floats:
        if not positive.sum():
            return np.full(len(GRID), np.nan)
        found = positive.cumsum()
        predicted = (positive + negative).cumsum()
        with np.errstate(invalid="ignore"):
            precision = found / predicted
        reached = np.searchsorted(found / found[-1], np.maximum(GRID, 1e-9) * (1 - 1e-12))
        return precision[np.minimum(reached, len(precision) - 1)]

    return _with_band(truth, probability, group, drawn_RG, at_grid)


def _upper(rate: Floats, sensitivity: Floats) -> tuple[Floats, Floats]:
    """Return the highest point of the curve at each rate, so that interpolation follows the top of its steps."""
    last = np.append(np.diff(rate) > 0, True)
    return rate[last], sensitivity[last]


def _with_band(
    truth: NDArray[np.bool_],
    probability: Floats,
    group: NDArray[np.int64],
    drawn_RG: Floats,
    at_grid: Callable[[Floats, Floats], Floats],
) -> Curve:
    """Return a curve and its band.

    Args:
        at_grid: from the images of the class and the others at each score, highest score first, to values at GRID.
    """
    order = np.argsort(-probability, kind="stable")
    starts = np.flatnonzero(np.diff(probability[order], prepend=np.inf))  # images of equal score are one step
    is_class = truth[order]
    in_group = group[order]

    def curve(weight_n: Floats) -> Floats:
        return at_grid(np.add.reduceat(weight_n * is_class, starts), np.add.reduceat(weight_n * ~is_class, starts))

    replicates = np.array([curve(drawn_G[in_group]) for drawn_G in drawn_RG[:N_BANDS]]).reshape(-1, len(GRID))
    return Curve(GRID, curve(np.ones(len(truth))), *_band(replicates))


def _band(replicates_RX: Floats) -> tuple[Floats, Floats]:
    bounds = np.array([percentile_interval(column) for column in replicates_RX.T])
    return bounds[:, 0], bounds[:, 1]


@dataclass(frozen=True)
class Reliability:
    """Bins of equally many images, by probability; all arrays have shape (n_bins,)."""

    predicted: Floats
    """Mean probability in the bin."""
    observed: Floats
    """Share of images that belong to the class."""
    low: Floats
    high: Floats
    n: NDArray[np.int64]


def reliability_curve(
    truth: NDArray[np.bool_], probability: Floats, group: NDArray[np.int64], drawn_RG: Floats
) -> Reliability:
    """Return the observed share of the class against the predicted probability; images of equal score share a bin.

    Args: as for `roc_curve`; all replicates are used.
    """
    edges = np.unique(np.quantile(probability, np.linspace(0, 1, N_BINS + 1)))
    bin_of = np.clip(np.searchsorted(edges, probability, side="right") - 1, 0, max(len(edges) - 2, 0))
    bins = np.unique(bin_of)
    n = np.array([(bin_of == k).sum() for k in bins])
    bounds = []
    for k in bins:
        inside = bin_of == k
        n_positive, n_images = (
            np.bincount(group[inside], weight[inside], drawn_RG.shape[1]) for weight in (truth, np.ones(len(truth)))
        )
        with np.errstate(invalid="ignore"):
            bounds.append(percentile_interval((drawn_RG @ n_positive) / (drawn_RG @ n_images)))
    low, high = np.array(bounds).T
    predicted, observed = (np.array([values[bin_of == k].mean() for k in bins]) for values in (probability, truth))
    return Reliability(predicted, observed, low, high, n)


@dataclass(frozen=True)
class DecisionCurve:
    """Net benefit per image at each threshold; predicting no image positive has 0."""

    model: Curve
    all: Floats
    """Of predicting every image positive, shape (n_thresholds,)."""


def decision_curve(
    truth: NDArray[np.bool_], probability: Floats, group: NDArray[np.int64], drawn_RG: Floats
) -> DecisionCurve:
    """Return the net benefit: true positives less false positives, weighted by the odds of the threshold, per image.

    Args: as for `roc_curve`; all replicates are used.
    """
    thresholds = np.arange(1, 100) / 100
    n_groups = drawn_RG.shape[1]
    n_R = drawn_RG @ np.bincount(group, minlength=n_groups)
    value: list[float] = []
    bounds: list[tuple[float, float]] = []
    for threshold in thresholds:
        odds = threshold / (1 - threshold)
        gain = np.where(probability >= threshold, np.where(truth, 1.0, -odds), 0.0)
        value.append(gain.mean())
        bounds.append(percentile_interval(drawn_RG @ np.bincount(group, gain, n_groups) / n_R))
    share = truth.mean()
    odds = thresholds / (1 - thresholds)
    low, high = np.array(bounds).T
    return DecisionCurve(Curve(thresholds, np.array(value), low, high), share - (1 - share) * odds)
