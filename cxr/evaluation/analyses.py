"""Analyses behind the report: curves, calibration, operating points and predictive values.

All are computed from the out-of-fold table. Whatever is fitted (calibration, thresholds) is fitted on the other folds
and applied unchanged to the fold that is evaluated. Intervals are 95%, from a bootstrap over groups of images
(patients).

Source: Van Calster et al., Calibration: the Achilles heel of predictive analytics, BMC Med 2019; Maier-Hein et al.,
Metrics Reloaded, Nat Methods 2024.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr.config import OperatingPoint
from cxr.evaluation.out_of_fold import OutOfFold
from cxr.metrics.bootstrap import Floats
from cxr.metrics.calibration import calibration_errors, fit_thresholds
from cxr.metrics.classification import Value
from cxr.metrics.curves import Curve, decision_curve, precision_recall_curve, reliability_curve, roc_curve
from cxr.metrics.delong import auc_interval, mean_auc_interval
from cxr.metrics.estimates import Estimates, estimate
from cxr.metrics.logistic import calibration_curve, logistic_recalibration

PREVALENCES = (0.05, 0.20, 0.50)
"""Prevalences that predictive values are given at, besides the set's own."""
RATES = ("accuracy", "sensitivity", "specificity", "precision", "f1")


def curve_tables(images: OutOfFold) -> dict[str, pd.DataFrame]:
    """Return the tables `roc` and `precision_recall`.

    Columns: class, fold (missing where pooled), false_positive_rate and sensitivity, or recall and precision, ci_low
    and ci_high (NaN in folds).
    """
    kinds = {
        "roc": (roc_curve, "false_positive_rate", "sensitivity"),
        "precision_recall": (precision_recall_curve, "recall", "precision"),
    }
    return {kind: pd.concat(_curves(images, draw, x, y), ignore_index=True) for kind, (draw, x, y) in kinds.items()}


def _curves(images: OutOfFold, draw: Callable[..., Curve], x: str, y: str) -> Iterator[pd.DataFrame]:
    for name, truth, column in images.one_vs_rest():
        score = images.probability[:, column]
        for fold in (None, *(np.unique(images.fold).tolist() if images.has_folds else ())):
            rows = np.full(len(truth), fill_value=True) if fold is None else images.fold == fold
            drawn = images.drawn if fold is None else images.drawn[:0]
            curve = draw(truth[rows], score[rows], images.group[rows], drawn)
            table = pd.DataFrame({"class": name, "fold": fold, x: curve.x, y: curve.y})
            yield table.assign(ci_low=curve.low, ci_high=curve.high).astype({"fold": "Int32"})


def auc_table(images: OutOfFold, metrics: pd.DataFrame) -> pd.DataFrame:
    """Return the ROC-AUC of each class, as the mean over folds (if known) and pooled, each with two kinds of interval.

    Columns: class, scope (`mean`, `pooled`), interval (`bootstrap` over patients, or `DeLong` with images in groups),
    value, ci_low, ci_high, reason.

    Args:
        images: of the run.
        metrics: the run's table of metrics, which holds the values and the bootstrap intervals.
    """
    rows = []
    of_all_folds = metrics[(metrics["metric"] == "roc_auc") & (metrics["scope"] != "fold")]
    known = of_all_folds.set_index(["scope", "class"])[["value", "ci_low", "ci_high", "reason"]].to_dict("index")
    for name, truth, column in images.one_vs_rest():
        score = images.probability[:, column]
        of_folds = {"mean": mean_auc_interval(truth, score, images.group, images.fold)} if images.has_folds else {}
        delong = of_folds | {"pooled": auc_interval(truth, score, images.group)}
        for scope, (low, high) in delong.items():
            row = {"class": name, "scope": scope, "interval": "bootstrap"} | known[scope, name]
            rows += [row, row | {"interval": "DeLong", "ci_low": low, "ci_high": high}]
    columns = ["class", "scope", "interval", "value", "ci_low", "ci_high", "reason"]
    return pd.DataFrame(rows, columns=columns).astype({"reason": "str"})


def reliability_table(images: OutOfFold) -> pd.DataFrame:
    """Return one row per class, stage (`before`, `after` calibration) and bin of equally many images.

    Columns: class, stage, predicted (mean probability), observed (share of the class), ci_low, ci_high, n.
    """
    parts = []
    for stage, probability in (("before", images.probability), ("after", images.calibrated)):
        for name, truth, column in images.one_vs_rest():
            bins = reliability_curve(truth, probability[:, column], images.group, images.drawn)
            values = {"predicted": bins.predicted, "observed": bins.observed, "ci_low": bins.low, "ci_high": bins.high}
            parts.append(pd.DataFrame({"class": name, "stage": stage, **values, "n": bins.n}))
    return pd.concat(parts, ignore_index=True)


def calibration_curve_table(images: OutOfFold) -> pd.DataFrame:
    """Return a smooth curve of the observed share against the probability, per class and stage.

    Columns: class, stage (`before`, `after` calibration), predicted (probability), observed, ci_low, ci_high.
    """
    parts = []
    for stage, probability in (("before", images.probability), ("after", images.calibrated)):
        for name, truth, column in images.one_vs_rest():
            curve = calibration_curve(truth, probability[:, column], images.group)
            values = {"predicted": curve.x, "observed": curve.y, "ci_low": curve.low, "ci_high": curve.high}
            parts.append(pd.DataFrame({"class": name, "stage": stage, **values}))
    return pd.concat(parts, ignore_index=True)


def calibration_table(images: OutOfFold) -> pd.DataFrame:
    """Return one row per stage and measure.

    Columns: class (missing for measures over all classes), stage, measure, value, ci_low, ci_high. Measures:
    `log_loss`, `brier` and `ece` as in `calibration_errors`; per class, `slope` and `intercept` of the logistic
    recalibration (1 and 0 are ideal; a slope below 1 is overconfident), which alone have an interval, and
    `mean_predicted_minus_observed`.
    """
    rows: list[dict[str, Any]] = []
    for stage, probability in (("before", images.probability), ("after", images.calibrated)):
        errors = calibration_errors(probability, images.target)
        rows += [{"class": None, "stage": stage, "measure": k, "value": v} for k, v in errors.items()]
        for name, truth, column in images.one_vs_rest():
            line = logistic_recalibration(truth, probability[:, column], images.group)
            rows += [
                {"class": name, "stage": stage, "measure": measure}
                | dict(zip(("value", "ci_low", "ci_high"), estimate, strict=True))
                for measure, estimate in line.items()
            ]
            difference = float(probability[:, column].mean() - truth.mean())
            rows += [{"class": name, "stage": stage, "measure": "mean_predicted_minus_observed", "value": difference}]
    columns = ["class", "stage", "measure", "value", "ci_low", "ci_high"]
    return pd.DataFrame(rows, columns=columns).astype({"class": "str"})


@dataclass(frozen=True)
class OperatingPointPredictions:
    """The images that are predicted positive at an operating point, each at a threshold chosen without its fold."""

    name: OperatingPoint
    thresholds: Floats
    """One per part (fold), chosen on the others."""
    predicted: NDArray[np.bool_]
    """Whether each image is predicted positive, shape (n,)."""


def operating_points(images: OutOfFold) -> list[OperatingPointPredictions]:
    """Return the operating points on calibrated probabilities; none for more than two classes."""
    if not images.is_binary:
        return []
    score = images.calibrated[:, 1]
    truth = images.target == 1
    parts = np.unique(images.part)
    by_part = [
        fit_thresholds(score[images.part != part], truth[images.part != part], images.calibrations[part].balanced)
        for part in parts.tolist()
    ]
    points = []
    for name in by_part[0]:
        thresholds = np.array([chosen[name] for chosen in by_part])
        predicted = score >= thresholds[np.searchsorted(parts, images.part)]
        points.append(OperatingPointPredictions(name, thresholds, predicted))
    return points


NO_THRESHOLD = "no threshold can be chosen for a fold, the others hold one class"


def estimates_at(images: OutOfFold, point: OperatingPointPredictions) -> Estimates:
    """Return the metrics at an operating point; all NaN if a fold has no threshold."""
    estimates = estimate(images.target == 1, point.predicted, images.calibrated[:, 1], images.replicates)
    return estimates.undefined(NO_THRESHOLD) if np.isnan(point.thresholds).any() else estimates


def operating_point_table(images: OutOfFold) -> pd.DataFrame:
    """Return one row per operating point and metric; empty for more than two classes.

    Columns: operating_point, threshold (mean over folds), threshold_low, threshold_high, threshold_of_all (chosen on
    all images, as for images that are not among them), metric, value, ci_low, ci_high, reason.
    """
    rows = []
    for point in operating_points(images):
        where = {
            "operating_point": point.name,
            "threshold": point.thresholds.mean(),
            "threshold_low": point.thresholds.min(),
            "threshold_high": point.thresholds.max(),
            "threshold_of_all": images.thresholds[point.name],
        }
        rows += [where | row for row in estimates_at(images, point).rows(RATES)]
    columns = ["operating_point", "threshold", "threshold_low", "threshold_high", "threshold_of_all"]
    columns += ["metric", "value", "ci_low", "ci_high", "reason"]
    return pd.DataFrame(rows, columns=columns).astype({"reason": "str"})


def predictive_value_table(images: OutOfFold) -> pd.DataFrame:
    """Return what a prediction means at a given prevalence; empty for more than two classes.

    Columns: operating_point, prevalence, is_own (the set's own prevalence), metric (`ppv`, `npv`), value, ci_low,
    ci_high. Computed from sensitivity and specificity by Bayes' rule; the prevalence is taken as known.
    """
    rows = []
    truth = images.target == 1
    for point in operating_points(images):
        rates = estimates_at(images, point)
        sensitivity, specificity = (rates.values[name].value for name in ("sensitivity", "specificity"))
        for prevalence, is_own in [*((p, False) for p in PREVALENCES), (float(truth.mean()), True)]:
            values = predictive_values(sensitivity, specificity, prevalence)
            drawn = predictive_values(rates.replicates["sensitivity"], rates.replicates["specificity"], prevalence)
            estimates = Estimates({name: Value(float(value)) for name, value in values.items()}, drawn)
            where = {"operating_point": point.name, "prevalence": prevalence, "is_own": is_own}
            rows += [where | row for row in estimates.rows(values)]
    columns = ["operating_point", "prevalence", "is_own", "metric", "value", "ci_low", "ci_high"]
    return pd.DataFrame(rows, columns=columns)


def predictive_values(sensitivity: Any, specificity: Any, prevalence: float) -> dict[str, Any]:
    """Return `ppv` and `npv` at a prevalence; NaN where no image is predicted so.

    Args:
        sensitivity: a number, or an array of replicates.
        specificity: of the same shape.
        prevalence: from 0 to 1.
    """
    true_positive = sensitivity * prevalence
    false_negative = (1 - sensitivity) * prevalence
    true_negative = specificity * (1 - prevalence)
    false_positive = (1 - specificity) * (1 - prevalence)
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "ppv": np.divide(true_positive, true_positive + false_positive),
            "npv": np.divide(true_negative, true_negative + false_negative),
        }


def decision_table(images: OutOfFold) -> pd.DataFrame:
    """Return the decision curve on calibrated probabilities; empty for more than two classes.

    Columns: threshold, net_benefit, ci_low, ci_high, net_benefit_of_all (of predicting every image positive).
    """
    if not images.is_binary:
        return pd.DataFrame(columns=["threshold", "net_benefit", "ci_low", "ci_high", "net_benefit_of_all"])
    curve = decision_curve(images.target == 1, images.calibrated[:, 1], images.group, images.drawn)
    bounds = {"ci_low": curve.model.low, "ci_high": curve.model.high}
    return pd.DataFrame(
        {"threshold": curve.model.x, "net_benefit": curve.model.y, **bounds, "net_benefit_of_all": curve.all}
    )


def score_table(images: OutOfFold) -> pd.DataFrame:
    """Return histograms of calibrated probabilities in 20 bins, per evaluated class and true class.

    Columns: class (whose probability it is), label (the true class), low, high, n, share (of the label's images).
    """
    edges = np.linspace(0, 1, 21)
    rows = []
    for name, _, column in images.one_vs_rest():
        for k, label in enumerate(images.classes):
            counts = np.histogram(images.calibrated[images.target == k, column], bins=edges)[0]
            shares = counts / max(counts.sum(), 1)
            bins = {"low": edges[:-1], "high": edges[1:], "n": counts, "share": shares}
            rows.append(pd.DataFrame({"class": name, "label": label, **bins}))
    return pd.concat(rows, ignore_index=True)
