"""How well a model scored the images whose labels came later: by version and week, and over all weeks.

Weeks are those of ISO 8601, by the time of scoring in UTC. Intervals are from a bootstrap over patients; those of the
calibration's slope and intercept from standard errors over patients. What a week is too small for is NaN, with the
reason.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr.classes import Classes
from cxr.metrics.bootstrap import Floats, Replicates, percentile_interval
from cxr.metrics.estimates import estimate
from cxr.metrics.logistic import log_odds, logistic_recalibration

RATES = ("roc_auc", "sensitivity", "specificity")
COLUMNS = ["model_version", "week", "metric", "value", "ci_low", "ci_high", "n_images", "n_positive", "n_patients"]
METRICS = (*RATES, "brier", "calibration_in_the_large", "calibration_slope", "calibration_intercept")
TYPES = {"model_version": "str", "week": "str", "metric": "str", "reason": "str"}


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
    """Return one row for each version, week and metric; the week is missing in the rows of all weeks together.

    Columns: COLUMNS and reason (why a value is NaN). Metrics: roc_auc; sensitivity and specificity of the predicted
    label, which was at the version's operating point; brier (the mean squared error of the positive class's
    probability); calibration_in_the_large (the mean probability less the observed share); calibration_slope and
    calibration_intercept.

    Args:
        images: as `labelled_images` returns them.
        classes: two, of the model.
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
    truth = (images["label"] == classes[1]).to_numpy()
    counts = {"n_images": len(images), "n_positive": int(truth.sum()), "n_patients": images["group"].nunique()}
    for row in [*_rates(images, truth, classes), *_calibration(images, truth, classes)]:
        yield where | counts | row


def _rates(images: pd.DataFrame, truth: NDArray[np.bool_], classes: Classes) -> list[dict[str, Any]]:
    predicted = (images["predicted_label"] == classes[1]).to_numpy()
    probability = images[classes.probability_columns[1]].to_numpy(float)
    return estimate(truth, predicted, probability, Replicates.of(images["group"])).rows(RATES)


def _calibration(images: pd.DataFrame, truth: NDArray[np.bool_], classes: Classes) -> list[dict[str, Any]]:
    probability = images[classes.probability_columns[1]].to_numpy(float)
    replicates = Replicates.of(images["group"])
    means: dict[str, Floats] = {
        "brier": (probability - truth) ** 2,
        "calibration_in_the_large": probability - truth,
    }
    rows = [
        _row(name, float(values.mean()), *percentile_interval(replicates.mean(values)))
        for name, values in means.items()
    ]
    reason = _without_line(truth, probability)
    line = logistic_recalibration(truth, probability, replicates.group) if reason is None else {}
    undefined = (np.nan, np.nan, np.nan)
    names = ("slope", "intercept")
    return rows + [_row(f"calibration_{name}", *line.get(name, undefined), reason) for name in names]


def _without_line(truth: NDArray[np.bool_], probability: Floats) -> str | None:
    """Return why the images have no slope and intercept; None if they have."""
    if not truth.any():
        return "no image of the class"
    if truth.all():
        return "no image of another class"
    odds = log_odds(probability)
    is_apart = odds[truth].min() >= odds[~truth].max() or odds[truth].max() <= odds[~truth].min()
    return "the probabilities separate the classes" if is_apart else None


def _row(metric: str, value: float, low: float, high: float, reason: str | None = None) -> dict[str, Any]:
    return {"metric": metric, "value": value, "ci_low": low, "ci_high": high, "reason": reason}
