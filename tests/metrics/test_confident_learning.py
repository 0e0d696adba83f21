"""Confident learning against hand-computed cases, a slow reference implementation and planted errors."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict

from cxr.metrics.confident_learning import class_thresholds, confident_joint, estimate_wrong_labels, rank_labels

BY_HAND = np.array([[0.9, 0.1], [0.7, 0.3], [0.05, 0.95], [0.75, 0.25], [0.4, 0.6], [0.1, 0.9], [0.2, 0.8], [0.8, 0.2]])
LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 1])


def draw(seed: int, n_images: int = 300, n_classes: int = 4) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Draw probabilities, and labels of which many are not the most probable class."""
    generator = np.random.default_rng(seed)
    probability = generator.dirichlet(np.full(n_classes, 0.4), n_images)
    return probability, (generator.random((n_images, 1)) > probability.cumsum(axis=1)).sum(axis=1).clip(
        0, n_classes - 1
    )


def test_thresholds_joint_and_suspects_are_those_computed_by_hand() -> None:
    np.testing.assert_allclose(
        class_thresholds(BY_HAND, LABELS), [(0.9 + 0.7 + 0.05 + 0.75) / 4, (0.6 + 0.9 + 0.8 + 0.2) / 4]
    )
    joint = confident_joint(BY_HAND, LABELS)
    assert joint.tolist() == [[3, 1], [1, 2]], "the fifth image reaches neither 0.6 nor 0.625"
    assert estimate_wrong_labels(joint, np.array([4, 4])).tolist() == [1, 1], "1 of 4 and 4 · 1 / 3, rounded"
    ranked = rank_labels(BY_HAND, LABELS)
    assert np.flatnonzero(ranked.is_suspect).tolist() == [2, 7]
    assert ranked.suggested[[2, 7]].tolist() == [1, 0]
    assert ranked.rank.tolist() == [7, 4, 1, 5, 3, 8, 6, 2]


def by_the_paper(probability: NDArray[np.float64], target: NDArray[np.int64]) -> tuple[list[list[int]], set[int]]:
    """The confident joint, and what pruning by class takes, from the paper's definitions, image by image."""
    n_images, n_classes = probability.shape
    thresholds = [np.mean([probability[k, c] for k in range(n_images) if target[k] == c]) for c in range(n_classes)]
    joint = [[0] * n_classes for _ in range(n_classes)]
    for k in range(n_images):
        reached = [c for c in range(n_classes) if probability[k, c] >= thresholds[c]]
        if reached:
            joint[target[k]][max(reached, key=lambda c: probability[k, c])] += 1
    pruned: set[int] = set()
    for c in range(n_classes):
        of_class = sorted((k for k in range(n_images) if target[k] == c), key=lambda k: probability[k, c])
        n_wrong = round(len(of_class) * (sum(joint[c]) - joint[c][c]) / sum(joint[c]))
        pruned |= set(of_class[:n_wrong])
    return joint, {k for k in pruned if probability[k].argmax() != target[k]}


@pytest.mark.parametrize("n_classes", [2, 3, 7])
def test_joint_and_suspects_are_those_of_the_papers_definitions(n_classes: int) -> None:
    probability, target = draw(n_classes, n_classes=n_classes)
    joint, suspects = by_the_paper(probability, target)
    assert confident_joint(probability, target).tolist() == joint
    ranked = rank_labels(probability, target)
    assert set(np.flatnonzero(ranked.is_suspect)) == suspects
    assert len(suspects) > 10


def test_suspects_come_first_and_self_confidence_orders_them_and_the_others() -> None:
    probability, target = draw(0)
    ranked = rank_labels(probability, target)
    order = np.argsort(ranked.rank)
    n_suspects = ranked.is_suspect.sum()
    assert sorted(ranked.rank) == list(range(1, len(target) + 1))
    assert ranked.is_suspect[order[:n_suspects]].all()
    assert (np.diff(ranked.self_confidence[order[:n_suspects]]) >= 0).all()
    assert (np.diff(ranked.self_confidence[order[n_suspects:]]) >= 0).all()
    assert (ranked.suggested != target).all()
    others = np.where(np.eye(4, dtype=bool)[target], 0, probability)
    np.testing.assert_array_equal(probability[np.arange(len(target)), ranked.suggested], others.max(axis=1))


def test_neither_the_order_of_images_nor_that_of_classes_matters() -> None:
    probability, target = draw(1)
    ranked = rank_labels(probability, target)
    generator = np.random.default_rng(1)
    images, classes = generator.permutation(len(target)), generator.permutation(4)
    permuted = rank_labels(probability[images][:, classes], np.argsort(classes)[target[images]])
    np.testing.assert_array_equal(permuted.rank, ranked.rank[images])
    np.testing.assert_array_equal(permuted.is_suspect, ranked.is_suspect[images])
    np.testing.assert_array_equal(classes[permuted.suggested], ranked.suggested[images])


def test_at_least_half_of_planted_errors_are_among_the_first_images() -> None:
    pixels, truth = load_digits(return_X_y=True)
    generator = np.random.default_rng(0)
    planted = generator.permutation(len(truth)) < round(0.03 * len(truth))
    label = np.where(planted, (truth + generator.integers(1, 10, len(truth))) % 10, truth)
    model = LogisticRegression(C=0.05, max_iter=300)
    ranked = rank_labels(cross_val_predict(model, pixels / 16, label, method="predict_proba"), label)
    assert planted[ranked.rank <= planted.sum()].mean() >= 0.5
    is_found = planted & ranked.is_suspect
    assert is_found.sum() >= 0.5 * planted.sum()
    assert (ranked.suggested == truth)[is_found].mean() >= 0.8


@pytest.mark.parametrize(
    ("probability", "n_suspects"),
    [
        pytest.param(np.eye(2)[[0, 0, 1, 1]], 0, id="probabilities of 0 and 1, all right"),
        pytest.param(np.eye(2)[[0, 0, 1, 0]], 1, id="probabilities of 0 and 1, one wrong"),
        pytest.param(np.full((4, 2), 0.5), 0, id="ties everywhere"),
        pytest.param(np.eye(3)[[0, 0, 1, 1]], 0, id="a class without images"),
        pytest.param(np.array([[0.2, 0.3, 0.5], [0.9, 0.1, 0], [0.1, 0.9, 0], [0, 1, 0]]), 0, id="no class to suspect"),
    ],
)
def test_hard_probabilities_are_ranked_without_a_warning(probability: NDArray[np.float64], n_suspects: int) -> None:
    ranked = rank_labels(probability, np.array([0, 0, 1, 1]))
    assert ranked.is_suspect.sum() == n_suspects
    assert sorted(ranked.rank) == [1, 2, 3, 4]


def test_an_image_whose_own_label_is_the_most_probable_is_no_suspect() -> None:
    probability = np.array([[0.55, 0.45]] * 4 + [[0.95, 0.05]] * 16 + [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    target = np.array([0] * 20 + [1] * 3)
    assert confident_joint(probability, target).tolist() == [[16, 4], [1, 1]], "four reach 0.433 and not 0.87"
    assert not rank_labels(probability, target).is_suspect[:20].any()
