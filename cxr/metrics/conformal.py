"""Class-conditional conformal prediction: which classes fit an image, and which images are referred to a person.

A class fits an image unless the image's probability of it is lower than nearly all images of that class have. The
thresholds are quantiles of each class by itself, so at most a stated share of each class is wrongly excluded, however
frequent the class is. An image that exactly one class fits has that class as its answer; others are referred.

Images of one patient are alike, so they are not exchangeable one by one. Every patient of a class counts once, and
shares that weight among the patient's images of the class: the guarantee is for an image, drawn at random, of a patient
who is not among those the thresholds come from. With one image each, this is the usual quantile: of n probabilities the
one that ranks ceil((n + 1)(1 - level)) from the top.

If one model predicts images that it was not trained on, at most `level` of each class is wrongly excluded. Out-of-fold
probabilities come from several models. The theorem of cross-validation (CV+), which compares an image with what each
fold's own model gave, allows up to twice the level there; in practice the share is about the level. A single threshold
on the mean of the models, as here, has no theorem: it relies on the mean being no less right than its members.

Source: Vovk, Gammerman & Shafer, Algorithmic Learning in a Random World, 2005 (Mondrian, that is class-conditional);
Sadinle, Lei & Wasserman, Least ambiguous set-valued classifiers with bounded error levels, JASA 2019; patients: Lee,
Barber & Willett, Distribution-free inference with hierarchical data, arXiv 2306.06342; Dunn, Wasserman & Ramdas,
Distribution-free prediction sets for two-layer hierarchical models, JASA 2023; folds: Vovk, Cross-conformal
predictors, Ann Math Artif Intell 2015; Barber, Candès, Ramdas & Tibshirani, Predictive inference with the jackknife+,
Ann Stat 2021.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ROUNDING = 1e-9
"""Sums of weights that fall short by less are taken to be whole."""


@dataclass(frozen=True)
class Referral:
    """The thresholds that decide which classes fit an image."""

    level: float
    """The share of each class that may be wrongly excluded."""
    thresholds: tuple[float, ...]
    """By class, in output order: the least probability with which it fits; NaN where it has too few patients."""

    @property
    def is_defined(self) -> bool:
        """Return whether every class has a threshold."""
        return not np.isnan(self.thresholds).any()

    def fits(self, probability: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return whether each class fits each image; both of shape (n, n_classes)."""
        return probability >= np.asarray(self.thresholds)


def fit_referral(
    probability: NDArray[np.float64], target: NDArray[np.int64], group: NDArray[np.int64], level: float
) -> Referral:
    """Return the thresholds for images of patients who are not among these.

    Args:
        probability: shape (n, n_classes), of images that the model was not trained on.
        target: shape (n,), index of each image's class.
        group: shape (n,), index of each image's patient.
        level: the share of each class that may be wrongly excluded, above 0 and below 1.
    """
    thresholds = (
        class_threshold(probability[target == k, k], group[target == k], level) for k in range(probability.shape[1])
    )
    return Referral(level, tuple(thresholds))


def class_threshold(probability: NDArray[np.float64], group: NDArray[np.int64], level: float) -> float:
    """Return the least probability of a class with which it fits; NaN if the class has too few patients.

    It is the highest probability that a share of at least 1 - level of the class reaches, among these patients and one
    more, who counts as below all of them.

    Args:
        probability: shape (n,), of the class, for images that belong to it.
        group: shape (n,), each image's patient.
        level: above 0 and below 1.
    """
    if not len(probability):
        return math.nan
    _, patient, n_images = np.unique(group, return_inverse=True, return_counts=True)
    order = np.argsort(-probability, kind="stable")
    reached = np.cumsum(1 / n_images[patient[order]])  # patients, in parts
    enough = reached >= (len(n_images) + 1) * (1 - level) - ROUNDING
    return float(probability[order][np.argmax(enough)]) if enough.any() else math.nan


def least_patients(level: float) -> int:
    """Return how many patients a class needs for a threshold: (n + 1) · level has to reach 1."""
    return math.ceil(1 / level - ROUNDING) - 1


def patients_of_classes(target: NDArray[np.int64], group: NDArray[np.int64], n_classes: int) -> list[int]:
    """Return how many patients each class has.

    Args:
        target: shape (n,), index of each image's class.
        group: shape (n,), each image's patient.
        n_classes: number of classes.
    """
    return [len(np.unique(group[target == k])) for k in range(n_classes)]
