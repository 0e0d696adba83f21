"""Logistic regression of patients' images: lines and smooth curves of calibration, with their intervals.

Images of a group (patient) count as one observation in every standard error.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from cxr.metrics.curves import Curve

KNOTS = (0.05, 0.35, 0.65, 0.95)
"""Quantiles of the log odds that the smooth curve bends at, as Harrell recommends for four knots."""
ENDS = (0.01, 0.99)
"""Where a smooth curve ends: beyond, log odds run to infinity, and with them the band."""
N_POINTS = 101
"""Points of a smooth curve."""
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Fitted:
    """A logistic regression."""

    coefficients: Floats
    """Shape (n_terms,)."""
    covariance: Floats
    """Of the coefficients, shape (n_terms, n_terms); NaN if there is a single group, or no unique solution."""


def log_odds(probability: Floats) -> Floats:
    """Return log odds, of certain predictions those of 1e-9 and 1 - 1e-9."""
    return logit(np.clip(probability, 1e-9, 1 - 1e-9))


def fit_logistic(design: Floats, truth: NDArray[np.bool_], group: NDArray[np.int64]) -> Fitted:
    """Return the coefficients of maximum likelihood, and their covariance with images of a group as one observation.

    Args:
        design: shape (n, n_terms); the first column is the intercept's, all ones.
        truth: shape (n,), whether the image belongs to the class; both occur.
        group: shape (n,), index of the image's group.

    Source: Liang & Zeger, Longitudinal data analysis using generalized linear models, Biometrika 1986 (sandwich
    estimator).
    """
    from sklearn.linear_model import LogisticRegression

    regression = LogisticRegression(C=np.inf, tol=1e-8, max_iter=1000).fit(design[:, 1:], truth)
    coefficients = np.append(regression.intercept_, regression.coef_[0])
    return Fitted(coefficients, _clustered_covariance(design, truth, expit(design @ coefficients), group))


def _clustered_covariance(
    design: Floats, truth: NDArray[np.bool_], predicted: Floats, group: NDArray[np.int64]
) -> Floats:
    present, place = np.unique(group, return_inverse=True)
    n_groups = len(present)
    information = design.T @ (design * (predicted * (1 - predicted))[:, None])
    is_singular = np.linalg.cond(information) > 1e12  # all log odds alike, or all images predicted with certainty
    if n_groups == 1 or is_singular:
        return np.full_like(information, np.nan)
    scores = np.zeros((n_groups, design.shape[1]))
    np.add.at(scores, place, design * (truth - predicted)[:, None])
    bread = np.linalg.inv(information)
    return bread @ (scores.T @ scores) @ bread * n_groups / (n_groups - 1)


def logistic_recalibration(
    truth: NDArray[np.bool_], probability: Floats, group: NDArray[np.int64]
) -> dict[str, tuple[float, float, float]]:
    """Return slope and intercept of a logistic regression of the truth on the log odds, each with its 95% interval.

    All is NaN if only one class occurs; the bounds are NaN where `fit_logistic` knows no covariance.

    Args:
        truth: shape (n,), whether the image belongs to the class.
        probability: shape (n,), of the class.
        group: shape (n,), index of the image's group.

    Source: Cox, Two further applications of a model for binary regression, Biometrika 1958.
    """
    if truth.all() or not truth.any():
        return dict.fromkeys(("slope", "intercept"), (np.nan, np.nan, np.nan))
    odds = log_odds(probability)
    fitted = fit_logistic(np.column_stack([np.ones_like(odds), odds]), truth, group)
    margins = 1.96 * np.sqrt(np.diag(fitted.covariance))
    estimates = zip(fitted.coefficients.tolist(), margins.tolist(), strict=True)
    intercept, slope = ((value, value - margin, value + margin) for value, margin in estimates)
    return {"slope": slope, "intercept": intercept}


def calibration_curve(truth: NDArray[np.bool_], probability: Floats, group: NDArray[np.int64]) -> Curve:
    """Return the observed share of the class as a smooth function of the predicted probability, with its 95% band.

    A logistic regression of the truth on a restricted cubic spline of the log odds, read off between the lowest and the
    highest probability, within ENDS. The band is pointwise, from the covariance with images of a group as one
    observation; it is NaN where that is unknown. The curve has no points if only one class occurs, or if the
    probabilities are too much alike for a spline.

    Args:
        truth: shape (n,), whether the image belongs to the class.
        probability: shape (n,), of the class.
        group: shape (n,), index of the image's group.

    Source: Van Calster et al., A calibration hierarchy for risk models was defined: from utopia to empirical data,
    J Clin Epidemiol 2016; the spline and its knots: Harrell, Regression Modeling Strategies, 2nd ed. 2015, section 2.4.
    """
    odds = log_odds(probability)
    knots = np.unique(np.quantile(odds, KNOTS))
    lowest, highest = np.clip([probability.min(), probability.max()], *ENDS)
    if truth.all() or not truth.any() or len(knots) < len(KNOTS) or lowest == highest:
        return Curve(*np.empty((4, 0)))
    basis = _restricted_cubic_spline(odds, knots)
    centre, scale = basis.mean(axis=0), basis.std(axis=0)

    def design(of: Floats) -> Floats:
        return np.column_stack([np.ones(len(of)), (_restricted_cubic_spline(of, knots) - centre) / scale])

    fitted = fit_logistic(design(odds), truth, group)
    x = np.linspace(lowest, highest, N_POINTS)
    at = design(log_odds(x))
    line = at @ fitted.coefficients
    margin = 1.96 * np.sqrt(np.einsum("nj,jk,nk->n", at, fitted.covariance, at))
    return Curve(x, expit(line), expit(line - margin), expit(line + margin))


def _restricted_cubic_spline(x: Floats, knots: Floats) -> Floats:
    """Return the terms of a spline that is linear beyond its outer knots, shape (len(x), len(knots) - 1)."""

    def cubed(knot: float) -> Floats:
        return np.maximum(x - knot, 0) ** 3

    before, last = knots[-2:]
    terms = [
        cubed(knot) - cubed(before) * (last - knot) / (last - before) + cubed(last) * (before - knot) / (last - before)
        for knot in knots[:-2]
    ]
    return np.column_stack([x, *(term / (last - knots[0]) ** 2 for term in terms)])
