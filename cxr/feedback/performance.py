"""How well a model scored the images whose labels came later: by version, week and class, and over all weeks.

Of two classes the positive one is evaluated, of more each against the rest, and `macro`, their mean.

Weeks are those of ISO 8601, by the time of scoring in UTC. Intervals are from a bootstrap over patients; those of the
calibration's slope and intercept from standard errors over patients. What a week is too small for is NaN, with the
reason.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr.classes import MACRO, Classes
from cxr.metrics.bootstrap import Floats, Replicates, percentile_interval
from cxr.metrics.estimates import estimate_by_class
from cxr.metrics.logistic import log_odds, logistic_recalibration

RATES = ("roc_auc", "sensitivity", "specificity")
COLUMNS = [
    "model_version",
    "week",
    "class",
    "metric",
    "value",
    "ci_low",
    "ci_high",
    "n_images",
    "n_positive",
    "n_patients",
]
METRICS = (*RATES, "brier", "calibration_in_the_large", "calibration_slope", "calibration_intercept")
UNDEFINED = (np.nan, np.nan, np.nan)
"""A value and its bounds."""
TYPES = {"model_version": "str", "week": "str", "class": "str", "metric": "str", "reason": "str"}


def labelled_images(scored: pd.DataFrame, labels: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each version and labelled image that the version was not made from.

    Columns: those of both tables, `week` (such as 2026-W48) and `group` (the patient; the image where it is unknown).

    Args:
        scored: as `read_scored` returns it.
        labels: as `current` returns them.
    """
    first = scored.drop_duplicates(["model_version", "image_id"])
    joined = first.merge(labels, on="image_id")
    joined = joined[~joined["in_training"].astype(bool)]
    calendar = joined["scored_at"].dt.isocalendar()
    week = calendar["year"].astype("str") + "-W" + calendar["week"].astype("str").str.zfill(2)
    group = ("patient " + joined["patient_id"]).fillna("image " + joined["image_id"])
    return joined.assign(week=week, group=group).reset_index(drop=True)


def performance_table(images: pd.DataFrame, classes: Classes) -> pd.DataFrame:
    """Return one row for each version, week, class and metric; the week is missing in the rows of all weeks together.

    Columns: COLUMNS and reason (why a value is NaN). Metrics: roc_auc; sensitivity and specificity of the predicted
    label, which was at the version's operating point; brier (the mean squared error of the class's probability);
    calibration_in_the_large (the mean probability less the observed share); calibration_slope and
    calibration_intercept. Calibration is of each class, not of `macro`, whose n_positive is that of the rarest class.

    Args:
        images: as `labelled_images` returns them.
        classes: of the model.
    """
    rows = [row for part in _parts(images) for row in _rows(*part, classes)]
    table = pd.DataFrame(rows, columns=[*COLUMNS, "reason"])
    return table.astype(TYPES | dict.fromkeys(("value", "ci_low", "ci_high"), "float64"))


def _parts(images: pd.DataFrame) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """Yield what the rows of a part of the images have in common, and the part."""
    for version in sorted(images["model_version"].unique(), key=int):
        of_version = images[images["model_version"] == version]
        yield {"model_version": version, "week": None}, of_version
        for week, of_week in of_version.groupby("week"):
            yield {"model_version": version, "week": week}, of_week


def _rows(where: dict[str, Any], images: pd.DataFrame, classes: Classes) -> Iterator[dict[str, Any]]:
    replicates = Replicates.of(images["group"])
    rates = _rates(images, classes, replicates)
    counts = {"n_images": len(images), "n_patients": images["group"].nunique()}
    n_positive = {name: int((images["label"] == name).sum()) for name in classes.evaluated}
    for name in classes.evaluated:
        found = counts | {"class": name, "n_positive": n_positive[name]}
        for row in [*rates[name], *_calibration(images, name, replicates)]:
            yield where | found | row
    if not classes.is_binary:
        found = counts | {"class": MACRO, "n_positive": min(n_positive.values())}
        for row in [*rates[MACRO], *_macro_calibration(images, classes, replicates)]:
            yield where | found | row


def _rates(images: pd.DataFrame, classes: Classes, replicates: Replicates) -> dict[str | None, list[dict[str, Any]]]:
    truth, predicted = (images[name].to_numpy(str) for name in ("label", "predicted_label"))
    probability = images[classes.probability_columns].to_numpy(float)
    found = estimate_by_class(truth, predicted, probability, classes, replicates)
    return {name: estimates.rows(RATES) for name, estimates in found.items()}


def _calibration(images: pd.DataFrame, name: str, replicates: Replicates) -> list[dict[str, Any]]:
    truth = (images["label"] == name).to_numpy()
    probability = images[f"probability_{name}"].to_numpy(float)
    rows = [
        _mean_row("brier", (probability - truth) ** 2, replicates),
        _mean_row("calibration_in_the_large", probability - truth, replicates),
    ]
    reason = _without_line(truth, probability)
    line = logistic_recalibration(truth, probability, replicates.group) if reason is None else {}
    names = ("slope", "intercept")
    return rows + [_row(f"calibration_{name}", *line.get(name, UNDEFINED), reason) for name in names]


def _macro_calibration(images: pd.DataFrame, classes: Classes, replicates: Replicates) -> list[dict[str, Any]]:
    truth = images["label"].to_numpy(str)[:, None] == np.array(classes)
    squares = (images[classes.probability_columns].to_numpy(float) - truth) ** 2
    names = ("calibration_in_the_large", "calibration_slope", "calibration_intercept")
    of_each = [_row(name, *UNDEFINED, "calibration is of each class") for name in names]
    return [_mean_row("brier", squares.mean(axis=1), replicates), *of_each]


def _without_line(truth: NDArray[np.bool_], probability: Floats) -> str | None:
    """Return why the images have no slope and intercept; None if they have."""
    if not truth.any():
        return "no image of the class"
    if truth.all():
        return "no image of another class"
    odds = log_odds(probability)
    is_apart = odds[truth].min() >= odds[~truth].max() or odds[truth].max() <= odds[~truth].min()
    return "the probabilities separate the classes" if is_apart else None


def _mean_row(metric: str, values: Floats, replicates: Replicates) -> dict[str, Any]:
    return _row(metric, float(values.mean()), *percentile_interval(replicates.mean(values)))


def _row(metric: str, value: float, low: float, high: float, reason: str | None = None) -> dict[str, Any]:
    return {"metric": metric, "value": value, "ci_low": low, "ci_high": high, "reason": reason}
