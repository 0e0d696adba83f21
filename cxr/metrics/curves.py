"""Curves with bands: ROC, precision against recall, reliability, net benefit; arrays in, arrays out.

Bands are pointwise 95 % intervals from a bootstrap over groups of images (patients), as everywhere here.

Source: Fawcett, An introduction to ROC analysis, Pattern Recognit Lett 2006; Davis & Goadrich, ICML 2006
(between two recalls precision is not interpolated); Vickers & Elkin, Decision curve analysis, Med Decis
Making 2006.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxr.metrics.bootstrap import percentile_interval

GRID = np.unique(np.concatenate([np.linspace(0, 0.1, 101), np.linspace(0.1, 1, 181)]))
"""Where ROC and precision-recall curves are read off: finer where good classifiers differ."""
N_BANDS = 500
"""Replicates of a curve; each is a curve of its own, so fewer than for single numbers."""
N_BINS = 10
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """Values at the points of `x`, with the pointwise 95 % band around them; all of shape (len(x),)."""

    x: Floats
    y: Floats
    low: Floats
    high: Floats


def roc_curve(truth: NDArray[np.bool_], probability: Floats, group: NDArray[np.int64], drawn_RG: Floats) -> Curve:
    """Return sensitivity at each false positive rate of GRID; NaN where there is only one class.

    Args:
        truth: shape (n,), is the image of the class.
        probability: shape (n,), of the class.
        group: shape (n,), index of the image's group.
        drawn_RG: how often each replicate holds each group; the first N_BANDS are used.
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
    """Return precision at the highest threshold that reaches each recall of GRID; arguments as for `roc_curve`."""

    def at_grid(positive: Floats, negative: Floats) -> Floats:
        if not positive.sum():
            return np.full(len(GRID), np.nan)
        found, predicted = positive.cumsum(), (positive + negative).cumsum()
        with np.errstate(invalid="ignore"):
            precision = found / predicted
        reached = np.searchsorted(found / found[-1], np.maximum(GRID, 1e-9) * (1 - 1e-12))
        return precision[np.minimum(reached, len(precision) - 1)]

    return _with_band(truth, probability, group, drawn_RG, at_grid)


def _upper(rate: Floats, sensitivity: Floats) -> tuple[Floats, Floats]:
    """Return the curve with one point per rate, the highest, so that it is read off above its steps."""
    last = np.append(np.diff(rate) > 0, True)
    return rate[last], sensitivity[last]


def _with_band(truth: NDArray[np.bool_], probability: Floats, group: NDArray[np.int64], drawn_RG: Floats, at_grid):
    order = np.argsort(-probability, kind="stable")
    starts = np.flatnonzero(np.diff(probability[order], prepend=np.inf))  # images of equal score are one step
    is_class, in_group = truth[order], group[order]

    def curve(weight_n: Floats) -> Floats:
        return at_grid(np.add.reduceat(weight_n * is_class, starts), np.add.reduceat(weight_n * ~is_class, starts))

    replicates = np.array([curve(drawn_G[in_group]) for drawn_G in drawn_RG[:N_BANDS]]).reshape(-1, len(GRID))
    return Curve(GRID, curve(np.ones(len(truth))), *_band(replicates))


def _band(replicates_RX: Floats) -> tuple[Floats, Floats]:
    bounds = np.array([percentile_interval(column) for column in replicates_RX.T])
    return bounds[:, 0], bounds[:, 1]


@dataclass(frozen=True)
class Reliability:
    """Bins of equally many images by probability; all of shape (n_bins,)."""

    predicted: Floats
    """Mean probability in the bin."""
    observed: Floats
    """Share of images of the class."""
    low: Floats
    high: Floats
    n: NDArray[np.int64]


def reliability_curve(
    truth: NDArray[np.bool_], probability: Floats, group: NDArray[np.int64], drawn_RG: Floats
) -> Reliability:
    """Return what share of images is of the class where the model says so; images of equal score share a bin."""
    edges = np.unique(np.quantile(probability, np.linspace(0, 1, N_BINS + 1)))
    bin_of = np.clip(np.searchsorted(edges, probability, side="right") - 1, 0, max(len(edges) - 2, 0))
    bins = np.unique(bin_of)
    n = np.array([(bin_of == k).sum() for k in bins])
    bounds = []
    for k in bins:
        inside = bin_of == k
        found, all_of = (np.bincount(group[inside], w[inside], drawn_RG.shape[1]) for w in (truth, np.ones(len(truth))))
        with np.errstate(invalid="ignore"):
            bounds.append(percentile_interval((drawn_RG @ found) / (drawn_RG @ all_of)))
    low, high = np.array(bounds).T
    predicted, observed = (np.array([v[bin_of == k].mean() for k in bins]) for v in (probability, truth))
    return Reliability(predicted, observed, low, high, n)


@dataclass(frozen=True)
class DecisionCurve:
    """Net benefit per image at each threshold probability; all of shape (n_thresholds,). Calling none has 0."""

    model: Curve
    all: Floats
    """Of calling every image positive."""


def decision_curve(
    truth: NDArray[np.bool_], probability: Floats, group: NDArray[np.int64], drawn_RG: Floats
) -> DecisionCurve:
    """Return the net benefit, true positives less false positives weighed by the odds of the threshold."""
    thresholds = np.arange(1, 100) / 100
    n_groups = drawn_RG.shape[1]
    n_R = drawn_RG @ np.bincount(group, minlength=n_groups)
    value, bounds = [], []
    for threshold in thresholds:
        odds = threshold / (1 - threshold)
        gain = np.where(probability >= threshold, np.where(truth, 1.0, -odds), 0.0)
        value.append(gain.mean())
        bounds.append(percentile_interval(drawn_RG @ np.bincount(group, gain, n_groups) / n_R))
    share, odds = truth.mean(), thresholds / (1 - thresholds)
    low, high = np.array(bounds).T
    return DecisionCurve(Curve(thresholds, np.array(value), low, high), share - (1 - share) * odds)
