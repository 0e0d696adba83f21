import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from cxr.classes import Classes
from cxr.metrics.bootstrap import Replicates
from cxr.metrics.classification import COUNTS, NAMES, Value
from cxr.metrics.estimates import Estimates, average_estimates, estimate, estimate_by_class

GENERATOR = np.random.default_rng(5)
GROUPS = pd.Series(GENERATOR.integers(0, 40, 150))
REPLICATES = Replicates.of(GROUPS)
TRUTH = GENERATOR.random(150) < 0.6
PROBABILITY = np.clip(0.2 * TRUTH + GENERATOR.random(150) * 0.8, 0, 1)


def images_of(number: int) -> np.ndarray:
    """The images that one replicate draws, each as often as its group."""
    return np.repeat(np.arange(150), REPLICATES.drawn[number, REPLICATES.group].astype(int))


def test_a_row_holds_the_value_and_the_middle_95_percent_of_its_replicates() -> None:
    estimates = estimate(TRUTH, PROBABILITY >= 0.5, PROBABILITY, REPLICATES)
    row = estimates.row("roc_auc")
    assert list(row) == ["metric", "value", "ci_low", "ci_high", "reason"]
    assert row["value"] == pytest.approx(sk.roc_auc_score(TRUTH, PROBABILITY))
    drawn = [sk.roc_auc_score(TRUTH[rows], PROBABILITY[rows]) for rows in map(images_of, range(2000))]
    assert (row["ci_low"], row["ci_high"]) == pytest.approx(tuple(np.percentile(drawn, [2.5, 97.5])))
    assert row["reason"] is None


def test_counts_have_no_interval_and_missing_metrics_no_row() -> None:
    estimates = estimate(TRUTH, PROBABILITY >= 0.5, PROBABILITY, REPLICATES)
    rows = {row["metric"]: row for row in estimates.rows([*NAMES, "unheard_of"])}
    assert set(rows) == set(NAMES)
    assert all(np.isnan(rows[name]["ci_low"]) for name in COUNTS)
    assert sum(rows[name]["value"] for name in COUNTS) == 150


def test_a_difference_is_paired() -> None:
    first = estimate(TRUTH, PROBABILITY >= 0.5, PROBABILITY, REPLICATES)
    assert first.difference("accuracy", first) == (0, 0, 0)
    second = estimate(TRUTH, PROBABILITY >= 0.3, PROBABILITY, REPLICATES)
    difference, low, high = second.difference("accuracy", first)
    assert difference == second.values["accuracy"].value - first.values["accuracy"].value
    right = [((threshold <= PROBABILITY) == TRUTH).astype(float) for threshold in (0.3, 0.5)]
    drawn = [(right[0] - right[1])[images_of(number)].mean() for number in range(2000)]
    assert (low, high) == pytest.approx(tuple(np.percentile(drawn, [2.5, 97.5])))


def test_undefined_estimates_are_nan_with_the_reason() -> None:
    estimates = estimate(TRUTH, PROBABILITY >= 0.5, PROBABILITY, REPLICATES).undefined("no threshold")
    for row in estimates.rows(NAMES):
        assert np.isnan([row["value"], row["ci_low"], row["ci_high"]]).all()
        assert row["reason"] == "no threshold"


def test_the_average_of_parts_is_nan_where_a_part_is_and_names_it() -> None:
    drawn = np.linspace(0, 1, 2000)
    parts = {
        "fold 0": Estimates({"f1": Value(0.5), "precision": Value(0.4)}, {"f1": drawn, "precision": drawn}),
        "fold 1": Estimates(
            {"f1": Value(0.7), "precision": Value(np.nan, "nothing predicted")},
            {"f1": 1 - drawn, "precision": np.full(2000, np.nan)},
        ),
    }
    average = average_estimates(parts)
    assert average.row("f1")["value"] == pytest.approx(0.6)
    assert (average.row("f1")["ci_low"], average.row("f1")["ci_high"]) == pytest.approx((0.5, 0.5))
    assert np.isnan(average.row("precision")["value"])
    assert average.row("precision")["reason"] == "fold 1: nothing predicted"


def test_two_classes_have_the_positive_ones_metrics_and_three_each_macro_and_overall() -> None:
    two = estimate_by_class(
        np.where(TRUTH, "P", "N"),
        np.where(PROBABILITY >= 0.5, "P", "N"),
        np.stack([1 - PROBABILITY, PROBABILITY], axis=1),
        Classes("NP"),
        REPLICATES,
    )
    assert list(two) == ["P"]
    assert two["P"].values == estimate(TRUTH, PROBABILITY >= 0.5, PROBABILITY, REPLICATES).values
    classes = Classes("abc")
    truth = GENERATOR.choice(classes, 150)
    probability = GENERATOR.dirichlet([1, 1, 1], 150)
    predicted = np.asarray(classes)[probability.argmax(axis=1)]
    three = estimate_by_class(truth, predicted, probability, classes, REPLICATES)
    assert set(three) == {None, "macro", "a", "b", "c"}
    rows = images_of(3)
    recalls = sk.recall_score(truth[rows], predicted[rows], average=None, labels=classes)
    assert three["macro"].replicates["sensitivity"][3] == pytest.approx(np.mean(recalls))
    assert three[None].replicates["balanced_accuracy"][3] == pytest.approx(np.mean(recalls))
    assert three[None].replicates["accuracy"][3] == pytest.approx((truth == predicted)[rows].mean())
