import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, logit, softmax
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression

from cxr.metrics.bootstrap import Replicates
from cxr.metrics.calibration import Calibration, prior_shift
from cxr.metrics.recalibration import (
    Recalibration,
    expected_thresholds,
    fit_recalibration,
    log_of,
    recalibrate,
)

ONE_EACH = "image {}".format


def draw(
    seed: int, n_images: int, *, n_folds: int = 3, scale: float = 2.0, shift: float = 1.5
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Draw another site: the log probabilities of the folds, whose log odds are too steep and too high, and classes.

    The true log odds of an image are 3 · score, and the folds scatter around them.
    """
    generator = np.random.default_rng(seed)
    target = (np.arange(n_images) % 5 < 3).astype(np.int64)
    score = 3 * (target - 0.5) + generator.normal(size=n_images)
    odds = scale * 3 * score + shift + generator.normal(0, 0.5, (n_folds, n_images))
    return log_of(np.stack([expit(-odds), expit(odds)], axis=-1)), target


def draws_of(groups: list[str]) -> Replicates:
    return Replicates.of(pd.Series(groups))


def test_with_many_images_and_one_fold_it_is_the_logistic_regression_of_scikit_learn() -> None:
    log_probability, target = draw(0, 40_000, n_folds=1)
    fitted = fit_recalibration(log_probability, target, np.ones(len(target)))
    odds = log_probability[0, :, 1] - log_probability[0, :, 0]
    theirs = LogisticRegression(C=np.inf, tol=1e-8, max_iter=1000).fit(odds[:, None], target)
    assert fitted.slope == pytest.approx(theirs.coef_[0, 0], rel=1e-3)
    assert fitted.bias[1] - fitted.bias[0] == pytest.approx(theirs.intercept_[0], abs=5e-3)
    assert sum(fitted.bias) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_with_few_images_no_map_is_more_probable_by_the_formula_written_out(n_classes: int) -> None:
    generator = np.random.default_rng(1)
    probability = softmax(generator.normal(0, 3, (3, 25, n_classes)), axis=2)
    target = generator.integers(0, n_classes, 25)

    def minus_log_posterior(parameters: NDArray[np.float64]) -> float:
        total = (parameters[0] / 0.5) ** 2 / 2 + sum((b / 2) ** 2 / 2 for b in parameters[1:])
        for image in range(25):
            likelihood = 0.0
            for fold in range(3):
                powers = probability[fold, image] ** np.exp(parameters[0]) * np.exp(parameters[1:])
                likelihood += powers[target[image]] / powers.sum() / 3
            total -= np.log(likelihood)
        return total

    options = {"xatol": 1e-8, "fatol": 1e-10, "maxiter": 5000, "maxfev": 5000}
    slow = minimize(minus_log_posterior, np.zeros(n_classes + 1), method="Nelder-Mead", options=options).x
    fitted = fit_recalibration(np.log(probability), target, np.ones(25))
    assert fitted.slope == pytest.approx(np.exp(slow[0]), rel=1e-4)
    assert fitted.bias == pytest.approx(slow[1:] - slow[1:].mean(), abs=1e-4)


def test_a_weight_counts_an_image_as_often_as_it_says() -> None:
    log_probability, target = draw(2, 30)
    weight = np.arange(30) % 3
    rows = np.repeat(np.arange(30), weight)
    weighed = fit_recalibration(log_probability, target, weight.astype(float))
    repeated = fit_recalibration(log_probability[:, rows], target[rows], np.ones(len(rows)))
    assert weighed.slope == pytest.approx(repeated.slope, rel=1e-4)
    assert weighed.bias == pytest.approx(repeated.bias, abs=1e-4)


def test_ten_images_that_are_told_apart_without_an_error_do_not_drive_the_slope_away() -> None:
    odds = np.array([-9.0, -7, -6, -5, -4, 2, 3, 5, 6, 8])
    target = (odds > 0).astype(np.int64)
    log_probability = log_of(np.stack([expit(-odds), expit(odds)], axis=-1))[None]
    fitted = fit_recalibration(log_probability, target, np.ones(10))
    assert 0.4 < fitted.slope < 2.7
    assert -4 < fitted.odds_before(0) < 2, "between the classes"


def test_a_model_that_is_right_stays_as_it_is() -> None:
    log_probability, target = draw(3, 20_000, n_folds=1, scale=1.0, shift=0.0)
    fitted = fit_recalibration(log_probability, target, np.ones(len(target)))
    prior = np.log(0.6 / 0.4)
    assert fitted.slope == pytest.approx(1 / (1 + 0.25 / 9), abs=0.03), "the folds' scatter dilutes the odds"
    assert fitted.bias[1] - fitted.bias[0] == pytest.approx(prior, abs=0.1), "three of five are positive"


def test_the_map_is_a_calibration_of_the_logits() -> None:
    generator = np.random.default_rng(4)
    logits = generator.normal(0, 4, (5, 20, 3))
    before = Calibration(1.7, (0.3, -0.5, 0.2))
    found = Recalibration(0.6, (0.4, -0.1, -0.3))
    expected = found.probability(log_of(before.probability(logits)))
    after = found.after(before)
    np.testing.assert_allclose(after.probability(logits).mean(axis=0), expected, atol=1e-12)
    assert sum(after.bias) == pytest.approx(0, abs=1e-12)


def test_expected_thresholds_by_hand() -> None:
    probability = np.array([0.95, 0.95, 0.8, 0.3, 0.04, 0.02, 0.02, 0.02])
    truth = np.array([1, 1, 1, 0, 0, 0, 0, 0], bool)
    found = expected_thresholds(probability, truth, np.ones(8), 0.4)
    # expected positives from the top: 1.90, 2.70, 3.00 of 3.10 (96.8%); negatives: 0.10, 0.30 of 4.90 (6.1%)
    expected = {"half": 0.5, "balanced": 0.4, "youden": 3 / 8, "sensitivity_95": 0.3, "specificity_95": 0.95}
    assert found == pytest.approx(expected)
    twice = expected_thresholds(probability, truth, np.array([1, 1, 1, 1, 1, 9, 9, 9]), 0.4)
    assert twice["youden"] == 3 / 32
    assert twice["specificity_95"] == 0.3, "1.0 of 28.4 negatives are expected from there up"


def test_nobody_is_positive_where_no_image_is_sure_enough() -> None:
    found = expected_thresholds(np.array([0.5, 0.5]), np.array([True, False]), np.ones(2), 0.5)
    assert found["specificity_95"] > 1


def test_a_site_whose_odds_are_moved_gets_its_specificity_back() -> None:
    log_probability, target = draw(5, 100)
    found = recalibrate(log_probability, target, draws_of([ONE_EACH(k) for k in range(100)]), 0.0)
    others, of_others = draw(6, 20_000)
    at_half = np.exp(others).mean(axis=0)[:, 1] >= 0.5
    assert (~at_half[of_others == 0]).mean() < 0.93
    again = found.map.probability(others)[:, 1] >= found.thresholds["youden"]
    best = norm.cdf(1.5)  # of both, at the best threshold on the scores themselves
    assert again[of_others == 1].mean() == pytest.approx(best, abs=0.04)
    assert (~again[of_others == 0]).mean() == pytest.approx(best, abs=0.04)
    for rate, value in found.rates["youden"].items():
        assert value == pytest.approx(best, abs=0.08), rate
    for point, (low, high) in found.intervals.items():
        assert low <= found.thresholds[point] <= high or point == "balanced"


def test_images_of_one_patient_count_as_one_draw_and_widen_the_interval() -> None:
    log_probability, target = draw(7, 30)
    rows = np.repeat(np.arange(30), 4)
    as_images, as_patients = (
        recalibrate(log_probability[:, rows], target[rows], draws_of(groups), 0.0).intervals["half"]
        for groups in ([ONE_EACH(k) for k in range(120)], [ONE_EACH(k) for k in rows])
    )
    assert np.ptp(logit(as_patients)) > 1.5 * np.ptp(logit(as_images)), "twice as wide, if it were not for the priors"


def test_another_prevalence_moves_probabilities_and_thresholds_and_predicts_alike_but_for_half() -> None:
    log_probability, target = draw(8, 40)
    replicates = draws_of([ONE_EACH(k) for k in range(40)])
    offset = prior_shift(0.6, 0.1)
    own, moved = (recalibrate(log_probability, target, replicates, 0.0, by) for by in (0.0, offset))
    # one fold: of several the mean of moved probabilities is not the moved mean
    before, after = (found.map.probability(log_probability[:1])[:, 1] for found in (own, moved))
    np.testing.assert_allclose(after / (1 - after), before / (1 - before) * (0.1 / 0.9) / (0.6 / 0.4), rtol=1e-9)
    for point in ("balanced", "youden"):
        assert ((after >= moved.thresholds[point]) == (before >= own.thresholds[point])).all()
        assert moved.rates[point] == own.rates[point]
        assert logit(moved.intervals[point]) == pytest.approx(logit(own.intervals[point]) + offset)
    assert own.thresholds["half"] == moved.thresholds["half"] == 0.5
    assert moved.rates["half"]["specificity"] >= own.rates["half"]["specificity"]
    assert moved.rates["half"] != own.rates["half"]
