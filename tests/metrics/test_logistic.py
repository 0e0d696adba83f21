import numpy as np
import patsy
import pytest
import statsmodels.api as sm
from numpy.typing import NDArray
from scipy.special import expit, logit

from cxr.metrics.logistic import KNOTS, calibration_curve, logistic_recalibration


def _draw() -> tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.int64]]:
    """Return truth, probability and group of 600 images, four of each patient, whose calibration bends."""
    generator = np.random.default_rng(4)
    group = np.repeat(np.arange(150), 4)
    odds = generator.normal(0, 2, 600) + generator.normal(0, 1, 150)[group]
    truth = generator.random(600) < expit(0.7 * odds + 0.2 * odds**2 - 1 + generator.normal(0, 1, 150)[group])
    return truth, expit(odds), group


def test_the_smooth_curve_is_the_natural_spline_of_patsy_fitted_by_statsmodels_with_images_in_groups() -> None:
    truth, probability, group = _draw()
    curve = calibration_curve(truth, probability, group)
    low, *inner, high = np.quantile(logit(probability), KNOTS)
    facts = {"x": logit(probability), "inner": inner, "low": low, "high": high}
    terms = patsy.dmatrix("cr(x, knots=inner, lower_bound=low, upper_bound=high) - 1", facts)
    model = sm.GLM(truth.astype(float), np.asarray(terms), family=sm.families.Binomial())
    fitted = model.fit(cov_type="cluster", cov_kwds={"groups": group, "use_correction": False})
    at = np.asarray(patsy.build_design_matrices([terms.design_info], {"x": logit(curve.x)})[0])
    line = at @ fitted.params
    margin = 1.96 * np.sqrt(np.diag(at @ fitted.cov_params() @ at.T) * 150 / 149)
    for ours, theirs in ((curve.y, line), (curve.low, line - margin), (curve.high, line + margin)):
        assert ours == pytest.approx(expit(theirs), abs=1e-6)


def test_the_curve_of_calibrated_probabilities_is_the_diagonal_and_goes_from_the_lowest_to_the_highest() -> None:
    generator = np.random.default_rng(0)
    probability = generator.uniform(0.02, 0.98, 20000)
    curve = calibration_curve(generator.random(20000) < probability, probability, np.arange(20000))
    assert (curve.x[0], curve.x[-1]) == pytest.approx((probability.min(), probability.max()))
    assert curve.y == pytest.approx(curve.x, abs=0.03)
    assert ((curve.low <= curve.x) & (curve.x <= curve.high)).mean() > 0.8


def test_the_curve_ends_before_log_odds_run_to_infinity() -> None:
    truth, probability, group = _draw()
    sure = expit(4 * logit(probability))
    assert sure.min() < 0.01
    assert sure.max() > 0.99
    assert calibration_curve(truth, sure, group).x[[0, -1]] == pytest.approx([0.01, 0.99])
    assert len(calibration_curve(truth, 0.009 * probability, group).x) == 0


def test_the_order_of_images_and_the_names_of_groups_do_not_matter() -> None:
    truth, probability, group = _draw()
    curve = calibration_curve(truth, probability, group)
    order = np.random.default_rng(1).permutation(len(truth))
    again = calibration_curve(truth[order], probability[order], 149 - group[order])
    for name in ("x", "y", "low", "high"):
        assert getattr(again, name) == pytest.approx(getattr(curve, name), abs=1e-6)


def test_there_is_no_curve_of_one_class_or_of_few_different_probabilities() -> None:
    truth, probability, group = _draw()
    assert len(calibration_curve(np.ones_like(truth), probability, group).x) == 0
    assert len(calibration_curve(truth, np.round(probability), group).x) == 0


def test_one_patient_or_perfect_separation_has_a_curve_without_a_band() -> None:
    truth, probability, group = _draw()
    of_one = calibration_curve(truth, probability, np.zeros_like(group))
    separated = calibration_curve(probability > 0.5, probability, group)
    for curve in (of_one, separated):
        assert np.isfinite(curve.y).all()
    assert np.isnan(of_one.low).all()


def test_recalibration_is_the_logistic_regression_on_the_log_odds() -> None:
    generator = np.random.default_rng(3)
    odds = generator.normal(0, 2, 20000)
    truth = generator.random(20000) < expit(0.5 * odds + 1)
    measured = logistic_recalibration(truth, expit(odds), np.arange(20000))
    assert measured["slope"][0] == pytest.approx(0.5, abs=0.03)
    assert measured["intercept"][0] == pytest.approx(1, abs=0.05)
    alone = np.arange(4)
    assert np.isnan(logistic_recalibration(np.ones(4, bool), np.full(4, 0.5), alone)["slope"]).all()


def test_the_intervals_of_the_recalibration_are_those_of_statsmodels_with_images_in_groups() -> None:
    generator = np.random.default_rng(4)
    group = np.repeat(np.arange(150), 4)
    odds = generator.normal(0, 2, 600) + generator.normal(0, 1, 150)[group]
    truth = generator.random(600) < expit(0.7 * odds + generator.normal(0, 1.5, 150)[group])
    measured = logistic_recalibration(truth, expit(odds), group)
    model = sm.GLM(truth.astype(float), sm.add_constant(odds), family=sm.families.Binomial())
    fitted = model.fit(cov_type="cluster", cov_kwds={"groups": group, "use_correction": False})
    alone = model.fit()
    margins = 1.96 * fitted.bse * np.sqrt(150 / 149)
    for k, name in enumerate(("intercept", "slope")):
        expected = [fitted.params[k], fitted.params[k] - margins[k], fitted.params[k] + margins[k]]
        assert measured[name] == pytest.approx(expected, abs=1e-5)
    assert fitted.bse[0] > 1.15 * alone.bse[0], "images of a patient are alike, so there are fewer than it seems"


def test_one_patient_and_certain_predictions_have_a_recalibration_without_an_interval() -> None:
    truth = np.array([True, False, True, False])
    of_one = logistic_recalibration(truth, np.array([0.9, 0.2, 0.4, 0.6]), np.zeros(4, int))
    alike = logistic_recalibration(truth, np.full(4, 0.3), np.arange(4))
    for value, low, high in (*of_one.values(), *alike.values()):
        assert np.isfinite(value)
        assert np.isnan([low, high]).all()
