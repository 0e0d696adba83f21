"""A finished run, looked at from every side: the tables behind the report, from the out-of-fold table alone.

Everything that is fitted (calibration, thresholds) is fitted on the other folds and applied unchanged to the
fold it is judged on. Intervals are 95 %, from a bootstrap over groups of images (patients).

Source: Van Calster et al., Calibration: the Achilles heel of predictive analytics, BMC Med 2019; Maier-Hein et al.,
Metrics Reloaded, Nat Methods 2024.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import logit

from cxr.evaluation.out_of_fold import Floats, OutOfFold
from cxr.metrics.bootstrap import percentile_interval, replicate_metrics
from cxr.metrics.calibration import calibration_errors, fit_thresholds
from cxr.metrics.classification import Value, binary_metrics
from cxr.metrics.curves import decision_curve, precision_recall_curve, reliability_curve, roc_curve
from cxr.metrics.delong import auc_interval, mean_auc_interval

PREVALENCES = (0.05, 0.20, 0.50)
RATES = ("accuracy", "sensitivity", "specificity", "precision", "f1")


def curve_tables(images: OutOfFold) -> dict[str, pd.DataFrame]:
    """Return the tables `roc` and `precision_recall`.

    Columns: class, fold (missing where pooled), x and y by their names, ci_low and ci_high (pooled only).
    """
    kinds = {
        "roc": (roc_curve, "false_positive_rate", "sensitivity"),
        "precision_recall": (precision_recall_curve, "recall", "precision"),
    }
    return {kind: pd.concat(_curves(images, *how), ignore_index=True) for kind, how in kinds.items()}


def _curves(images: OutOfFold, draw: Any, x: str, y: str) -> Iterator[pd.DataFrame]:
    for name, truth, column in images.judged():
        score = images.probability[:, column]
        for fold in (None, *np.unique(images.fold).tolist()):
            rows = np.full(len(truth), fill_value=True) if fold is None else images.fold == fold
            drawn = images.drawn if fold is None else images.drawn[:0]
            curve = draw(truth[rows], score[rows], images.group[rows], drawn)
            table = pd.DataFrame({"class": name, "fold": fold, x: curve.x, y: curve.y})
            yield table.assign(ci_low=curve.low, ci_high=curve.high).astype({"fold": "Int32"})


def auc_table(images: OutOfFold, metrics: pd.DataFrame) -> pd.DataFrame:
    """Return the ROC-AUC of each class twice, pooled and as the mean of the folds, each with two intervals.

    Columns: class, scope (`mean`, `pooled`), interval (`bootstrap` over patients; `DeLong`, images in groups), value,
    ci_low, ci_high, reason.

    Args:
        images: the run's.
        metrics: the run's table of metrics, which holds values and the bootstrap's intervals.
    """
    rows = []
    known = metrics[metrics["metric"] == "roc_auc"].set_index(["scope", "class"])
    for name, truth, column in images.judged():
        score = images.probability[:, column]
        delong = {
            "mean": mean_auc_interval(truth, score, images.group, images.fold),
            "pooled": auc_interval(truth, score, images.group),
        }
        for scope, bounds in delong.items():
            value, low, high, reason = known.loc[(scope, name), ["value", "ci_low", "ci_high", "reason"]]
            row = {"class": name, "scope": scope, "value": value, "reason": reason}
            rows.append(row | {"interval": "bootstrap", "ci_low": low, "ci_high": high})
            rows.append(row | {"interval": "DeLong", "ci_low": bounds[0], "ci_high": bounds[1]})
    columns = ["class", "scope", "interval", "value", "ci_low", "ci_high", "reason"]
    return pd.DataFrame(rows, columns=columns).astype({"reason": "str"})


def reliability_table(images: OutOfFold) -> pd.DataFrame:
    """Return one row per class, stage (`before`, `after` calibration) and bin of equally many images.

    Columns: class, stage, predicted (mean probability), observed (share of images of the class), ci_low, ci_high, n.
    """
    parts = []
    for stage, probability in (("before", images.probability), ("after", images.calibrated)):
        for name, truth, column in images.judged():
            bins = reliability_curve(truth, probability[:, column], images.group, images.drawn)
            values = {"predicted": bins.predicted, "observed": bins.observed, "ci_low": bins.low, "ci_high": bins.high}
            parts.append(pd.DataFrame({"class": name, "stage": stage, **values, "n": bins.n}))
    return pd.concat(parts, ignore_index=True)


def calibration_table(images: OutOfFold) -> pd.DataFrame:
    """Return one row per stage and measure: class (missing where of all), stage, measure, value.

    Measures: log_loss, brier and ece as in `calibration_errors`; of each class against the rest `slope` and
    `intercept` of the logistic recalibration (1 and 0 are ideal; a slope below 1 is too sure of itself) and
    `mean_predicted_minus_observed`.
    """
    rows: list[dict[str, Any]] = []
    for stage, probability in (("before", images.probability), ("after", images.calibrated)):
        errors = calibration_errors(probability, images.target)
        rows += [{"class": None, "stage": stage, "measure": k, "value": v} for k, v in errors.items()]
        for name, truth, column in images.judged():
            measures = logistic_recalibration(truth, probability[:, column])
            measures["mean_predicted_minus_observed"] = float(probability[:, column].mean() - truth.mean())
            rows += [{"class": name, "stage": stage, "measure": k, "value": v} for k, v in measures.items()]
    return pd.DataFrame(rows).astype({"class": "str"})


def logistic_recalibration(truth: NDArray[np.bool_], probability: Floats) -> dict[str, float]:
    """Return slope and intercept of a logistic regression of the truth on the log odds; NaN with one class.

    Source: Cox, Two further applications of a model for binary regression, Biometrika 1958.
    """
    from sklearn.linear_model import LogisticRegression

    if truth.all() or not truth.any():
        return {"slope": float("nan"), "intercept": float("nan")}
    odds = logit(np.clip(probability, 1e-9, 1 - 1e-9))[:, None]
    fitted = LogisticRegression(C=np.inf, tol=1e-8, max_iter=1000).fit(odds, truth)
    return {"slope": float(fitted.coef_[0, 0]), "intercept": float(fitted.intercept_[0])}


@dataclass(frozen=True)
class PredictedImages:
    """Images called at a threshold that was chosen without them."""

    name: str
    thresholds: Floats
    """One for each fold, chosen on the others."""
    predicted: NDArray[np.bool_]


def operating_points(images: OutOfFold) -> list[PredictedImages]:
    """Return the operating points of two classes, on calibrated probabilities; none of more classes."""
    if not images.is_binary:
        return []
    score, truth, folds = images.calibrated[:, 1], images.target == 1, np.unique(images.fold)
    by_fold = [fit_thresholds(score[images.fold != fold], truth[images.fold != fold]) for fold in folds]
    points = []
    for name in by_fold[0]:
        thresholds = np.array([chosen[name] for chosen in by_fold])
        points.append(PredictedImages(name, thresholds, score >= thresholds[np.searchsorted(folds, images.fold)]))
    return points


NO_THRESHOLD = "no threshold can be chosen for a fold, the others hold one class"


def _judge_at(images: OutOfFold, point: PredictedImages) -> tuple[dict[str, Value], dict[str, Floats]]:
    """Return the metrics at an operating point and their replicates; NaN throughout if a fold has no threshold."""
    truth, score = images.target == 1, images.calibrated[:, 1]
    values = binary_metrics(truth, point.predicted, score)
    replicates = replicate_metrics(truth, point.predicted, score, images.group, images.drawn)
    if np.isnan(point.thresholds).any():
        values = {name: Value(np.nan, NO_THRESHOLD) for name in values}
        replicates = {name: np.full_like(drawn, np.nan) for name, drawn in replicates.items()}
    return values, replicates


def operating_point_table(images: OutOfFold) -> pd.DataFrame:
    """Return one row per operating point and metric; two classes.

    Columns: operating_point, threshold (mean over folds), threshold_low, threshold_high, metric, value, ci_low,
    ci_high, reason.
    """
    rows = []
    for point in operating_points(images):
        values, replicates = _judge_at(images, point)
        where = {
            "operating_point": point.name,
            "threshold": point.thresholds.mean(),
            "threshold_low": point.thresholds.min(),
            "threshold_high": point.thresholds.max(),
        }
        for metric in RATES:
            low, high = percentile_interval(replicates[metric])
            value, reason = values[metric]
            rows.append(where | _row(metric, value, low, high, reason))
    columns = ["operating_point", "threshold", "threshold_low", "threshold_high", *_row("", 0, 0, 0, None)]
    return pd.DataFrame(rows, columns=columns).astype({"reason": "str"})


def _row(metric: str, value: float, low: float, high: float, reason: str | None) -> dict[str, Any]:
    return {"metric": metric, "value": value, "ci_low": low, "ci_high": high, "reason": reason}


def predictive_value_table(images: OutOfFold) -> pd.DataFrame:
    """Return what a call means where the disease is as frequent as given; two classes.

    Columns: operating_point, prevalence, is_own (the set's own prevalence), metric (`ppv`, `npv`), value, ci_low,
    ci_high. From sensitivity and specificity by Bayes' rule; the prevalence counts as known.
    """
    rows = []
    truth = images.target == 1
    for point in operating_points(images):
        values, replicates = _judge_at(images, point)
        for prevalence, is_own in [*((p, False) for p in PREVALENCES), (float(truth.mean()), True)]:
            exact = predictive_values(values["sensitivity"].value, values["specificity"].value, prevalence)
            spread = predictive_values(replicates["sensitivity"], replicates["specificity"], prevalence)
            for metric, value in exact.items():
                low, high = percentile_interval(spread[metric])
                rows.append(
                    {
                        "operating_point": point.name,
                        "prevalence": prevalence,
                        "is_own": is_own,
                        "metric": metric,
                        "value": float(value),
                        "ci_low": low,
                        "ci_high": high,
                    }
                )
    columns = ["operating_point", "prevalence", "is_own", "metric", "value", "ci_low", "ci_high"]
    return pd.DataFrame(rows, columns=columns)


def predictive_values(sensitivity: Any, specificity: Any, prevalence: float) -> dict[str, Any]:
    """Return ppv and npv at a prevalence, of numbers or arrays; NaN where nothing is called so."""
    found, missed = sensitivity * prevalence, (1 - sensitivity) * prevalence
    cleared, alarmed = specificity * (1 - prevalence), (1 - specificity) * (1 - prevalence)
    with np.errstate(invalid="ignore", divide="ignore"):
        return {"ppv": np.divide(found, found + alarmed), "npv": np.divide(cleared, cleared + missed)}


def decision_table(images: OutOfFold) -> pd.DataFrame:
    """Return the decision curve of two classes, on calibrated probabilities.

    Columns: threshold, net_benefit, ci_low, ci_high, net_benefit_of_all (of calling every image positive).
    """
    if not images.is_binary:
        return pd.DataFrame(columns=["threshold", "net_benefit", "ci_low", "ci_high", "net_benefit_of_all"])
    curve = decision_curve(images.target == 1, images.calibrated[:, 1], images.group, images.drawn)
    bounds = {"ci_low": curve.model.low, "ci_high": curve.model.high}
    return pd.DataFrame(
        {"threshold": curve.model.x, "net_benefit": curve.model.y, **bounds, "net_benefit_of_all": curve.all}
    )


def score_table(images: OutOfFold) -> pd.DataFrame:
    """Return the histogram of calibrated probabilities in 20 bins: class asked for, label, low, high, n, share."""
    edges = np.linspace(0, 1, 21)
    rows = []
    for name, _, column in images.judged():
        for k, label in enumerate(images.classes):
            counts = np.histogram(images.calibrated[images.target == k, column], bins=edges)[0]
            shares = counts / max(counts.sum(), 1)
            bins = {"low": edges[:-1], "high": edges[1:], "n": counts, "share": shares}
            rows.append(pd.DataFrame({"class": name, "label": label, **bins}))
    return pd.concat(rows, ignore_index=True)
