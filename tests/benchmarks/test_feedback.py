import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from benchmarks import feedback


def test_the_drawn_weeks_have_the_roc_auc_and_the_prevalence_that_were_asked_for() -> None:
    weeks = list(feedback.draw_weeks(np.random.default_rng(0), 10000, np.array([0.95, 0.9])))
    for (positive, negative), auc in zip(weeks, (0.95, 0.9), strict=True):
        truth = np.repeat([1, 0], [len(positive), len(negative)])
        assert truth.mean() == feedback.PREVALENCE
        assert roc_auc_score(truth, np.concatenate([positive, negative])) == pytest.approx(auc, abs=0.005)


def test_each_of_three_classes_has_the_roc_auc_that_was_asked_for() -> None:
    (week,) = feedback.draw_class_weeks(np.random.default_rng(0), 10000, (0.95, 0.9, 0.8), 1)
    for (positive, negative), auc, share in zip(week, (0.95, 0.9, 0.8), feedback.SHARES_OF_CLASSES, strict=True):
        truth = np.repeat([1, 0], [len(positive), len(negative)])
        assert truth.mean() == share
        assert roc_auc_score(truth, np.concatenate([positive, negative])) == pytest.approx(auc, abs=0.01)


def test_the_fall_of_one_of_three_classes_is_found_and_the_others_are_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(feedback, "N_REPETITIONS", 2)
    monkeypatch.setattr(feedback, "USUAL", 0.99)
    monkeypatch.setattr(feedback, "PROMISED", 0.97)
    found = feedback.delay_of_a_class(200)
    assert (found["found within 52 weeks"], found["another class is called broken"]) == (1, 0)
    monkeypatch.setattr(feedback, "N_WEEKS", 4)
    monkeypatch.setattr(feedback, "PROMISED", 0.5)
    assert set(feedback.false_alarms_of_classes(60).values()) <= {0.0}


def test_a_fall_is_found_and_a_find_before_it_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feedback, "N_REPETITIONS", 2)
    found = feedback.delays(60, 0.3, 4)
    assert found["found within 13 weeks"] == 1
    assert found["median weeks"] < 4
    monkeypatch.setattr(feedback, "USUAL", 0.5)
    assert feedback.delays(60, 0.3, 8)["median weeks"] is None


def test_every_rule_is_quiet_where_the_promise_is_kept_with_ease(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feedback, "N_REPETITIONS", 2)
    monkeypatch.setattr(feedback, "N_WEEKS", 4)
    assert feedback.false_alarms(60, 0.999) == dict.fromkeys(feedback.RULES, 0.0)
    assert feedback.false_alarms(60, 0.5) == dict.fromkeys(feedback.RULES, 1.0)
