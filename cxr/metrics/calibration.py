"""Calibrated probabilities, and the thresholds that turn them into predictions.

Class weights shift a network's output towards the rare class, and networks are overconfident. One temperature and one
bias per class correct both: `probability = softmax(logits / temperature + bias)`, fitted on out-of-fold logits only.
Cross-fitting measures how well that works: each fold is calibrated on the others. Thresholds are chosen on out-of-fold
predictions in the same way.

Source: Guo et al., On calibration of modern neural networks, ICML 2017; Alexandari et al., Maximum
likelihood with bias-corrected calibration is hard to beat at label shift adaptation, ICML 2020; another prevalence:
Saerens, Latinne & Decaestecker, Neural Comput 2002; Elkan, The foundations of cost-sensitive learning, IJCAI 2001.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_softmax, logit, softmax

from cxr.classes import Classes
from cxr.config import OperatingPoint

ABOVE_ONE = math.nextafter(1, 2)
"""The highest threshold: no image is predicted positive."""
N_BINS = 15
"""Bins of the expected calibration error."""


@dataclass(frozen=True)
class Calibration:
    """The map from logits to probabilities; temperature 1 and biases 0 give the softmax of the logits."""

    temperature: float
    bias: tuple[float, ...]
    """One per class; they sum to 0."""

    def probability(self, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return calibrated probabilities for logits, both of shape (…, n_classes)."""
        return softmax(logits / self.temperature + np.asarray(self.bias), axis=-1)

    @property
    def log_odds(self) -> float:
        """The positive class's log odds where a network's two logits are equal; for two classes."""
        return self.bias[1] - self.bias[0]

    @property
    def balanced(self) -> float:
        """The positive class's probability where a network's two logits are equal; for two classes.

        There, a network whose loss weighs the classes alike finds both equally likely.
        """
        return float(expit(self.log_odds))

    def shifted(self, offset: float) -> Self:
        """Return the calibration with the positive class's log odds raised by an offset; for two classes."""
        negative, positive = self.bias
        return replace(self, bias=(negative - offset / 2, positive + offset / 2))


@dataclass(frozen=True)
class CalibrationOfFindings:
    """The maps from logits to probabilities of several findings, each by itself.

    A finding's logit is calibrated as that of two classes, its absence with a logit of 0.
    """

    by_finding: tuple[Calibration, ...]
    """In output order, each of two classes."""

    def probability(self, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return calibrated probabilities for logits, both of shape (…, n_findings)."""
        columns = [
            calibration.probability(np.stack([np.zeros_like(logit), logit], axis=-1))[..., 1]
            for calibration, logit in zip(self.by_finding, np.moveaxis(logits, -1, 0), strict=True)
        ]
        return np.stack(columns, axis=-1)


def average_folds(
    calibration: Calibration | CalibrationOfFindings, logits: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean of the folds' calibrated probabilities, shape (n, n_classes), and their spread, shape (n,).

    The spread is the difference between the highest and the lowest fold, for the class in which it is largest.

    Args:
        calibration: the same for every fold.
        logits: of each fold, shape (n_folds, n, n_classes).
    """
    by_fold = calibration.probability(logits)
    return by_fold.mean(axis=0), (by_fold.max(axis=0) - by_fold.min(axis=0)).max(axis=1)


def fit_calibration(logits: NDArray[np.float64], target: NDArray[np.int64]) -> Calibration:
    """Return the temperature and biases of maximum likelihood.

    Args:
        logits: shape (n, n_classes), of images that the network was not trained on.
        target: shape (n,), index of each image's class.
    """
    from scipy.optimize import minimize

    n_classes = logits.shape[1]

    def loss(parameters: NDArray[np.float64]) -> float:
        scaled = logits * np.exp(-parameters[0]) + np.append(parameters[1:], 0)
        return -float(log_softmax(scaled, axis=1)[np.arange(len(target)), target].mean())

    # a weak prior: perfectly separated classes would otherwise drive the temperature to 0
    prior = 1e-4
    best = minimize(lambda p: loss(p) + prior * float(p @ p), np.zeros(n_classes), method="BFGS").x
    bias = np.append(best[1:], 0)
    return Calibration(float(np.exp(best[0])), tuple((bias - bias.mean()).tolist()))


def fit_without_each_fold(
    logits: NDArray[np.float64], target: NDArray[np.int64], fold: NDArray[np.int64]
) -> dict[int, Calibration]:
    """Return the calibration of each fold, fitted on the other folds.

    Args:
        logits: shape (n, n_classes), out of fold.
        target: shape (n,), index of each image's class.
        fold: shape (n,).
    """
    return {k: fit_calibration(logits[fold != k], target[fold != k]) for k in np.unique(fold).tolist()}


def calibrate_folds(
    calibrations: Mapping[int, Calibration], logits: NDArray[np.float64], fold: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return probabilities, shape (n, n_classes); each fold's come from its own calibration.

    Args:
        calibrations: of each fold.
        logits: shape (n, n_classes), out of fold.
        fold: shape (n,).
    """
    probability = np.empty_like(logits)
    for k, calibration in calibrations.items():
        probability[fold == k] = calibration.probability(logits[fold == k])
    return probability


def calibration_errors(probability: NDArray[np.float64], target: NDArray[np.int64]) -> dict[str, float]:
    """Return log_loss, brier (summed over classes) and ece.

    For two classes `brier` is twice that of the positive class alone, which is scikit-learn's `brier_score_loss`.
    `ece` is the expected calibration error of the most probable class, in 15 bins of equally many images.

    Args:
        probability: shape (n, n_classes).
        target: shape (n,), index of each image's class.
    """
    n = len(target)
    truth = np.eye(probability.shape[1])[target]
    confidence = probability.max(axis=1)
    correct = (probability.argmax(axis=1) == target).astype(float)
    _, tied = np.unique(confidence, return_inverse=True)
    correct = (np.bincount(tied, correct) / np.bincount(tied))[
        tied
    ]  # ties may lie in two bins: each counts as their mean
    bins = np.array_split(np.argsort(confidence, kind="stable"), min(N_BINS, n))
    gaps = [len(rows) / n * abs(confidence[rows].mean() - correct[rows].mean()) for rows in bins]
    return {
        "log_loss": float(-np.log(np.clip(probability[np.arange(n), target], 1e-15, 1)).mean()),
        "brier": float(((probability - truth) ** 2).sum(axis=1).mean()),
        "ece": float(sum(gaps)),
    }


def fit_thresholds(
    probability: NDArray[np.float64], truth: NDArray[np.bool_], balanced: float
) -> dict[OperatingPoint, float]:
    """Return the threshold of each operating point; an image is predicted positive from the threshold up.

    `half` is 0.5, `balanced` is where a network's logits are equal, `youden` maximises sensitivity + specificity,
    `sensitivity_95` is the highest threshold with a sensitivity of at least 0.95, `specificity_95` the lowest with a
    specificity of at least 0.95. If all images belong to one class, the last three are NaN.

    Args:
        probability: shape (n,), of the positive class, out of fold.
        truth: shape (n,), whether the image belongs to the positive class.
        balanced: the probability where the logits are equal, `Calibration.balanced`.
    """
    from sklearn.metrics import roc_curve

    fixed: dict[OperatingPoint, float] = {"half": 0.5, "balanced": balanced}
    if truth.all() or not truth.any():
        return {**fixed, "youden": math.nan, "sensitivity_95": math.nan, "specificity_95": math.nan}
    false_positive_rate, sensitivity, threshold = roc_curve(truth, probability, drop_intermediate=False)
    threshold[0] = ABOVE_ONE  # infinite in scikit-learn
    specificity = 1 - false_positive_rate
    return {
        **fixed,
        "youden": float(threshold[np.argmax(sensitivity + specificity)]),
        "sensitivity_95": float(threshold[np.argmax(sensitivity >= 0.95)]),
        "specificity_95": float(threshold[np.flatnonzero(specificity >= 0.95)[-1]]),
    }


def prior_shift(before: float, after: float) -> float:
    """Return by how much the log odds of the positive class change when only its prevalence does.

    Args:
        before: the prevalence that the probabilities were calibrated at, between 0 and 1.
        after: another prevalence, between 0 and 1.

    Source: Saerens et al. 2002, equation 2.4; Elkan 2001, theorem 2.
    """
    return float(logit(after) - logit(before))


def shift_thresholds(thresholds: Mapping[OperatingPoint, float], offset: float) -> dict[OperatingPoint, float]:
    """Return thresholds that call the same images positive after log odds are raised by an offset; `half` stays 0.5."""
    return {point: 0.5 if point == "half" else shift_threshold(value, offset) for point, value in thresholds.items()}


def shift_threshold(threshold: float, offset: float) -> float:
    """Return the threshold that calls the same images positive after log odds are raised by an offset."""
    return float(expit(logit(threshold) + offset)) if threshold < 1 else threshold


def predict_labels(probability: NDArray[np.float64], classes: Classes, threshold: float = 0.5) -> NDArray[np.str_]:
    """Return each image's predicted class, shape (n,).

    Of two classes it is the positive one from `threshold` up; of more, the most probable.

    Args:
        probability: shape (n, n_classes), columns in the order of `classes`.
        classes: in output order.
        threshold: on the positive class's probability; unused for more than two classes.
    """
    column = (probability[:, 1] >= threshold).astype(int) if classes.is_binary else probability.argmax(axis=1)
    return np.asarray(classes)[column]
