"""Recalibration: a model's probabilities and thresholds, fitted to a few labelled images from another site.

The new probability is the mean over folds of `softmax(slope · log(probability) + bias)`: as in a calibration, one
number stretches the log odds and one per class moves them. Both are fitted by maximum a posteriori likelihood, with
normal priors around the model as it is, whose weight fades as images are added. Without priors a few images that the
model separates would drive the slope to infinity.

A threshold counted on 25 images depends on one or two of them. Thresholds are therefore computed from the fitted
probabilities: an image of probability p counts as p of a positive and 1 - p of a negative image.

Source: Platt 1999; Alexandari et al., ICML 2020 (temperature and bias); Gelman et al., A weakly informative default
prior distribution for logistic and other regression models, Ann Appl Stat 2008; Efron & Tibshirani 1993 (bootstrap).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_softmax, logit, softmax

from cxr.config import OperatingPoint
from cxr.metrics.bootstrap import Replicates, percentile_interval
from cxr.metrics.calibration import ABOVE_ONE, Calibration, shift_threshold, shift_thresholds

Floats = NDArray[np.float64]

SLOPE_SD = 0.5
"""Standard deviation of the prior of the slope's logarithm: 95% lie between 0.4 and 2.7."""
BIAS_SD = 2.0
"""Standard deviation of the prior of each class's bias: the log odds of two classes move by 2.8."""
N_DRAWS = 500
"""Bootstrap replicates: each is fitted anew."""
LEAST_ODDS = 1e-300
"""Probabilities below are raised to this, so that their logarithm is finite."""


@dataclass(frozen=True)
class Recalibration:
    """The map from a model's log probabilities to new probabilities; slope 1 and biases 0 change nothing."""

    slope: float
    bias: tuple[float, ...]
    """One per class; they sum to 0."""

    def probability(self, log_probability: Floats) -> Floats:
        """Return new probabilities, shape (n, n_classes).

        Args:
            log_probability: of each fold, shape (n_folds, n, n_classes).
        """
        return softmax(self.slope * log_probability + np.asarray(self.bias), axis=-1).mean(axis=0)

    def after(self, calibration: Calibration) -> Calibration:
        """Return the calibration that maps logits to the new probabilities.

        Args:
            calibration: maps logits to the probabilities that this was fitted on.
        """
        bias = self.slope * np.asarray(calibration.bias) + np.asarray(self.bias)
        return Calibration(calibration.temperature / self.slope, tuple((bias - bias.mean()).tolist()))

    def shifted(self, offset: float) -> Self:
        """Return the map with the positive class's log odds raised by an offset; for two classes."""
        negative, positive = self.bias
        return replace(self, bias=(negative - offset / 2, positive + offset / 2))

    def odds_of(self, log_odds: float) -> float:
        """Return the new log odds of the positive class, of two, for log odds before."""
        return self.slope * log_odds + self.bias[1] - self.bias[0]

    def odds_before(self, log_odds: float) -> float:
        """Return the log odds before that give new log odds of the positive class, of two."""
        return (log_odds - self.bias[1] + self.bias[0]) / self.slope


@dataclass(frozen=True)
class Recalibrated:
    """What was fitted to labelled images, and how it does on images that it was not fitted to."""

    map: Recalibration
    thresholds: dict[OperatingPoint, float]
    """On the new probabilities; empty for more than two classes."""
    intervals: dict[OperatingPoint, tuple[float, float]]
    """95%, from a bootstrap that refits the map and the thresholds."""
    rates: dict[OperatingPoint, dict[str, float]]
    """Sensitivity and specificity on the images that a replicate did not draw, over all replicates."""
    errors: dict[str, float]
    """Log loss and Brier score (summed over classes) on those images."""


def log_of(probability: Floats) -> Floats:
    """Return the logarithm of probabilities, finite also where they underflowed to 0."""
    return np.log(np.maximum(probability, LEAST_ODDS))


def fit_recalibration(log_probability: Floats, target: NDArray[np.int64], weight: Floats) -> Recalibration:
    """Return the most probable map, given the labels and the priors.

    Args:
        log_probability: of each fold, shape (n_folds, n, n_classes), for images that no fold was trained on.
        target: shape (n,), index of each image's class.
        weight: shape (n,), how often each image counts.
    """
    from scipy.optimize import minimize

    truth = np.eye(log_probability.shape[2])[target]
    every = np.arange(len(target))

    def loss(parameters: Floats) -> tuple[float, Floats]:
        log_slope, bias = parameters[0], parameters[1:]
        log_by_fold = log_softmax(np.exp(log_slope) * log_probability + bias, axis=2)
        of_class = log_by_fold[:, every, target]
        total = np.logaddexp.reduce(of_class, axis=0)
        share = weight * np.exp(of_class - total)  # of the folds in an image's likelihood
        residual = share[..., None] * (truth - np.exp(log_by_fold))
        prior = (log_slope / SLOPE_SD) ** 2 / 2 + ((bias / BIAS_SD) ** 2).sum() / 2
        by_slope = log_slope / SLOPE_SD**2 - np.exp(log_slope) * (residual * log_probability).sum()
        by_bias = bias / BIAS_SD**2 - residual.sum(axis=(0, 1))
        return float(prior - weight @ total), np.append(by_slope, by_bias)

    best = minimize(loss, np.zeros(log_probability.shape[2] + 1), jac=True, method="BFGS").x
    return Recalibration(float(np.exp(best[0])), tuple((best[1:] - best[1:].mean()).tolist()))


def expected_thresholds(
    probability: Floats, truth: NDArray[np.bool_], weight: Floats, balanced: float
) -> dict[OperatingPoint, float]:
    """Return the threshold of each operating point, computed from probabilities that are taken to be right.

    `youden` is the share of positive images: where a probability equals the prevalence, one more positive image is
    gained for each negative one that is lost, as shares of their classes. `sensitivity_95` is the highest probability
    from which up 95% of the positive images are expected, `specificity_95` the lowest below which 95% of the
    negative ones are.

    Args:
        probability: shape (n,), of the positive class.
        truth: shape (n,), whether the image belongs to it.
        weight: shape (n,), how often each image counts.
        balanced: the probability where the logits are equal.
    """
    step, place = np.unique(-probability, return_inverse=True)
    positive = np.bincount(place, weight * probability).cumsum()
    negative = np.bincount(place, weight * (1 - probability)).cumsum()
    is_specific = negative <= 0.05 * negative[-1]
    return {
        "half": 0.5,
        "balanced": balanced,
        "youden": float(weight @ truth / weight.sum()),
        "sensitivity_95": float(-step[np.argmax(positive >= 0.95 * positive[-1])]),
        "specificity_95": float(-step[is_specific][-1]) if is_specific.any() else ABOVE_ONE,
    }


def recalibrate(
    log_probability: Floats, target: NDArray[np.int64], replicates: Replicates, balanced: float, offset: float = 0.0
) -> Recalibrated:
    """Fit the map and the thresholds to labelled images, and measure both by a bootstrap over patients.

    Args:
        log_probability: of each fold, shape (n_folds, n, n_classes), for images that no fold was trained on.
        target: shape (n,), index of each image's class.
        replicates: draws of the images' patients.
        balanced: the log odds before of the positive class where a network's logits are equal; unused for more than
            two classes.
        offset: raises the log odds of the positive class, of two, for a prevalence other than that of the images.
    """
    once = np.ones(len(target))
    fitted = fit_recalibration(log_probability, target, once)
    thresholds = _thresholds(fitted, log_probability, target, once, balanced, offset)
    measured = _Measured(fitted, log_probability, target)
    for weight in _weights(replicates, target, log_probability.shape[2]):
        again = fit_recalibration(log_probability, target, weight)
        measured.add(again, _thresholds(again, log_probability, target, weight, balanced, offset), weight == 0)
    return Recalibrated(
        fitted.shifted(offset) if offset else fitted,
        shift_thresholds(thresholds, offset),
        measured.intervals(offset),
        measured.rates(),
        measured.errors(),
    )


def _weights(replicates: Replicates, target: NDArray[np.int64], n_classes: int) -> Iterator[Floats]:
    """Yield how often each replicate holds each image, shape (n,), where it holds images of every class."""
    for drawn in replicates.drawn[:N_DRAWS]:
        weight = drawn[replicates.group]
        if (np.bincount(target, weight, n_classes) > 0).all():
            yield weight


def _thresholds(
    fitted: Recalibration,
    log_probability: Floats,
    target: NDArray[np.int64],
    weight: Floats,
    balanced: float,
    offset: float,
) -> dict[OperatingPoint, float]:
    """Return thresholds that hold before the offset is added; none for more than two classes."""
    if len(fitted.bias) > 2:
        return {}
    probability = fitted.probability(log_probability)[:, 1]
    expected = expected_thresholds(probability, target == 1, weight, float(expit(fitted.odds_of(balanced))))
    return {**expected, "half": shift_threshold(0.5, -offset)}


class _Measured:
    """What the replicates say of thresholds, and of the images that each of them did not draw."""

    def __init__(self, fitted: Recalibration, log_probability: Floats, target: NDArray[np.int64]) -> None:
        self._fitted = fitted
        self._log_probability = log_probability
        self._target = target
        self._thresholds: dict[OperatingPoint, list[float]] = {}
        self._right: dict[OperatingPoint, Any] = {}
        self._sums = np.zeros(3)

    def add(
        self, again: Recalibration, thresholds: dict[OperatingPoint, float], is_left_out: NDArray[np.bool_]
    ) -> None:
        """Count one replicate."""
        target = self._target[is_left_out]
        probability = again.probability(self._log_probability[:, is_left_out])
        n_classes = probability.shape[1]
        squares = ((probability - np.eye(n_classes)[target]) ** 2).sum()
        of_class = np.maximum(probability[np.arange(len(target)), target], 1e-15)
        self._sums += np.array([len(target), -np.log(of_class).sum(), squares])
        for point, value in thresholds.items():
            self._thresholds.setdefault(point, []).append(self._as_fitted(again, value))
            is_right = (probability[:, 1] >= value) == (target == 1)
            counts = np.stack([np.bincount(target, is_right, 2), np.bincount(target, minlength=2)])
            self._right[point] = self._right.get(point, 0) + counts

    def _as_fitted(self, again: Recalibration, threshold: float) -> float:
        """Return a replicate's threshold on the scale of the map that was fitted to all images."""
        if not 0 < threshold < 1:
            return threshold
        return float(expit(self._fitted.odds_of(again.odds_before(float(logit(threshold))))))

    def intervals(self, offset: float) -> dict[OperatingPoint, tuple[float, float]]:
        """Return the interval of each threshold, after the offset is added."""
        intervals: dict[OperatingPoint, tuple[float, float]] = {}
        for point, values in self._thresholds.items():
            low, high = percentile_interval(np.array(values))
            intervals[point] = shift_threshold(low, offset), shift_threshold(high, offset)
        return intervals

    def rates(self) -> dict[OperatingPoint, dict[str, float]]:
        """Return sensitivity and specificity at each operating point."""
        return {
            point: {"sensitivity": float(right[1] / n[1]), "specificity": float(right[0] / n[0])}
            for point, (right, n) in self._right.items()
        }

    def errors(self) -> dict[str, float]:
        """Return log loss and Brier score."""
        n, log_loss, brier = self._sums
        return {"log_loss": float(log_loss / n), "brier": float(brier / n)}
