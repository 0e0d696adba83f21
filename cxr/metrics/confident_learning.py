"""Confident learning: the images whose label is most likely wrong.

Each class has a threshold, the mean probability that it is given on its own images. The confident joint counts, for the
images of each class, which class's threshold they reach; where they reach several, the most probable of these counts.
The share of a class's images that is counted under another class estimates how many of its labels are wrong, and as
many of its images, those with the lowest self-confidence, are the suspects: the paper's variant "prune by class". An
image is none if its own label is the most probable class.

The thresholds adapt to classes that a network is less confident about. They do not make self-confidence comparable
between classes, so the probabilities have to be calibrated if the network was trained with class weights.

Source: Northcutt, Jiang & Chuang, Confident learning: estimating uncertainty in dataset labels, J Artif Intell Res 70,
2021.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class RankedLabels:
    """How likely the label of each image is wrong."""

    self_confidence: Floats
    """Probability of the image's own label, shape (n,)."""
    suggested: Indices
    """Index of the most probable of the other classes, shape (n,)."""
    is_suspect: NDArray[np.bool_]
    """Whether the image is among those whose labels are estimated to be wrong, shape (n,)."""
    rank: Indices
    """From 1, shape (n,): the suspects, then the other images, each by self-confidence; ties in the images' order."""


def rank_labels(probability: Floats, target: Indices) -> RankedLabels:
    """Rank the labels of images, the one that is most likely wrong first.

    Args:
        probability: shape (n, n_classes), two classes or more; calibrated, by networks that did not see the image.
        target: shape (n,), index of each image's class, right or wrong.
    """
    self_confidence = _of_own_class(probability, target)
    others = probability.copy()
    np.put_along_axis(others, target[:, None], -np.inf, axis=1)
    n_wrong = estimate_wrong_labels(
        confident_joint(probability, target), np.bincount(target, minlength=others.shape[1])
    )
    is_suspect = _places_in_class(self_confidence, target) < n_wrong[target]
    is_suspect &= self_confidence < others.max(axis=1)
    rank = np.empty(len(target), np.int64)
    rank[np.lexsort((self_confidence, ~is_suspect))] = np.arange(1, len(target) + 1)
    return RankedLabels(self_confidence, others.argmax(axis=1), is_suspect, rank)


def class_thresholds(probability: Floats, target: Indices) -> Floats:
    """Return the mean self-confidence of each class's images, shape (n_classes,); NaN for a class without images."""
    n_classes = probability.shape[1]
    sums = np.bincount(target, _of_own_class(probability, target), minlength=n_classes)
    n_images = np.bincount(target, minlength=n_classes)
    return np.divide(sums, n_images, out=np.full(n_classes, np.nan), where=n_images > 0)


def confident_joint(probability: Floats, target: Indices) -> Indices:
    """Return how many images of each class (row) are confidently of each class (column), shape (n_classes, n_classes).

    An image that reaches no threshold is in no cell.
    """
    n_classes = probability.shape[1]
    reached = np.where(probability >= class_thresholds(probability, target), probability, -1.0)
    is_confident = reached.max(axis=1) >= 0
    cells = target[is_confident] * n_classes + reached[is_confident].argmax(axis=1)
    return np.bincount(cells, minlength=n_classes**2).reshape(n_classes, n_classes)


def estimate_wrong_labels(joint: Indices, n_images: Indices) -> Indices:
    """Return how many labels of each class are estimated to be wrong, shape (n_classes,); 0 if its row is empty.

    Args:
        joint: the confident joint, shape (n_classes, n_classes).
        n_images: of each class, shape (n_classes,).
    """
    n_confident = joint.sum(axis=1)
    n_elsewhere = n_confident - joint.diagonal()
    share = np.divide(n_elsewhere, n_confident, out=np.zeros(len(joint)), where=n_confident > 0)
    return np.rint(share * n_images).astype(np.int64)


def _of_own_class(probability: Floats, target: Indices) -> Floats:
    return np.take_along_axis(probability, target[:, None], axis=1)[:, 0]


def _places_in_class(self_confidence: Floats, target: Indices) -> Indices:
    """Return how many images of its class are before each image by self-confidence, shape (n,)."""
    places = np.empty(len(target), np.int64)
    order = np.argsort(self_confidence, kind="stable")
    for column in np.unique(target):
        images = order[target[order] == column]
        places[images] = np.arange(len(images))
    return places
