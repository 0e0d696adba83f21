import math

import numpy as np
import pytest

from cxr.classes import Classes
from cxr.metrics.calibration import predict_labels
from cxr.metrics.classification import COUNTS, NAMES, binary_metrics, multiclass_metrics, rates_at


def twin(truth: np.ndarray, predicted: np.ndarray, probability: np.ndarray) -> dict[str, float]:
    """Every metric by counting, image by image and pair by pair."""
    pairs = list(zip(truth.tolist(), predicted.tolist(), strict=True))
    tp, fp = pairs.count((True, True)), pairs.count((False, True))
    tn, fn = pairs.count((False, False)), pairs.count((True, False))
    wins = [
        1.0 if p > q else 0.5 if p == q else 0.0 for p in probability[truth] for q in probability[~truth]
    ]  # a positive image beats a negative one
    precisions, recalls = [1.0], [0.0]
    for threshold in sorted(set(probability.tolist()), reverse=True):
        chosen = probability >= threshold
        precisions.append((truth & chosen).sum() / chosen.sum())
        recalls.append((truth & chosen).sum() / truth.sum())
    average_precision = sum((recalls[i] - recalls[i - 1]) * precisions[i] for i in range(1, len(recalls)))
    return {
        "accuracy": (tp + tn) / len(pairs),
        "balanced_accuracy": (tp / (tp + fn) + tn / (tn + fp)) / 2,
        "precision": tp / (tp + fp),
        "sensitivity": tp / (tp + fn),
        "specificity": tn / (tn + fp),
        "f1": 2 * tp / (2 * tp + fp + fn),
        "roc_auc": sum(wins) / len(wins),
        "average_precision": average_precision,
        "true_positive": tp,
        "false_positive": fp,
        "true_negative": tn,
        "false_negative": fn,
    }


@pytest.mark.parametrize("seed", range(5))
def test_every_metric_equals_a_slow_twin(seed: int) -> None:
    generator = np.random.default_rng(seed)
    truth = generator.random(60) < 0.7
    probability = np.round(np.clip(0.3 * truth + generator.random(60) * 0.7, 0, 1), 1)  # with ties
    predicted = probability >= 0.5
    values = binary_metrics(truth, predicted, probability)
    assert tuple(values) == NAMES
    for name, expected in twin(truth, predicted, probability).items():
        assert values[name].value == pytest.approx(expected, abs=1e-12), name
        assert values[name].reason is None


@pytest.mark.parametrize(
    ("truth", "predicted", "undefined"),
    [
        ([1, 1], [1, 0], {"balanced_accuracy", "specificity", "roc_auc"}),
        ([0, 0], [1, 0], {"balanced_accuracy", "sensitivity", "roc_auc", "average_precision"}),
        ([1, 0], [0, 0], {"precision"}),
        ([0, 0], [0, 0], {"balanced_accuracy", "precision", "sensitivity", "f1", "roc_auc", "average_precision"}),
    ],
)
def test_what_is_undefined_is_nan_with_a_reason(truth: list[int], predicted: list[int], undefined: set[str]) -> None:
    values = binary_metrics(np.array(truth, bool), np.array(predicted, bool), np.array([0.9, 0.4]))
    assert {name for name, value in values.items() if math.isnan(value.value)} == undefined
    assert {name for name, value in values.items() if value.reason} == undefined


def test_one_class_against_the_rest_is_that_class_as_binary() -> None:
    generator = np.random.default_rng(0)
    classes = Classes("abc")
    truth = generator.choice(classes, 90)
    probability = generator.dirichlet([1, 1, 1], 90)
    predicted = predict_labels(probability, classes)
    values = multiclass_metrics(truth, predicted, probability, classes)
    for column, name in enumerate(classes):
        binary = binary_metrics(truth == name, predicted == name, probability[:, column])
        assert values[name] == {k: v for k, v in binary.items() if k not in ("accuracy", "balanced_accuracy")}
    assert values[None]["accuracy"].value == pytest.approx((truth == predicted).mean())
    assert values[None]["balanced_accuracy"].value == pytest.approx(values["macro"]["sensitivity"].value)
    for name in set(values["macro"]) - set(COUNTS):
        assert values["macro"][name].value == pytest.approx(np.mean([values[c][name].value for c in classes]))


def test_a_class_without_images_makes_the_macro_mean_nan_and_names_it() -> None:
    values = multiclass_metrics(np.array(["a", "b"]), np.array(["a", "a"]), np.eye(3)[:2], ["a", "b", "c"])
    assert math.isnan(values["macro"]["sensitivity"].value)
    assert values["macro"]["sensitivity"].reason == "c: no image of the class"
    assert values[None]["balanced_accuracy"].reason == "no image of class c"


def test_the_positive_class_of_two_is_predicted_from_one_half_up() -> None:
    probability = np.array([[0.5, 0.5], [0.51, 0.49]])
    assert predict_labels(probability, Classes(["no", "yes"])).tolist() == ["yes", "no"]


@pytest.mark.parametrize("threshold", [0.0, 0.31, 0.5])
def test_rates_at_a_threshold_are_those_of_counting(threshold: float) -> None:
    generator = np.random.default_rng(3)
    truth, probability = generator.random(60) < 0.4, generator.random(60).round(2)
    predicted = probability >= threshold
    rates, slow = rates_at(truth, probability, threshold), twin(truth, predicted, probability)
    tn, fn = slow["true_negative"], slow["false_negative"]
    expected = {"ppv": slow["precision"], "npv": tn / (tn + fn) if tn + fn else math.nan}
    for name, value in rates.items():
        assert value.value == pytest.approx(expected.get(name, slow.get(name)), nan_ok=True), name
        assert math.isnan(value.value) == bool(value.reason)


def test_without_positive_predictions_there_is_no_positive_predictive_value() -> None:
    rates = rates_at(np.array([True, False]), np.array([0.2, 0.9]), 1.1)
    assert math.isnan(rates["ppv"].value)
    assert rates["ppv"].reason == "no image predicted as the class"
    assert rates["npv"].value == 0.5
