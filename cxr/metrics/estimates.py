"""Metrics with intervals: values beside their bootstrap replicates, and the table rows that are made of them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr.classes import MACRO, Classes
from cxr.metrics.bootstrap import Floats, Replicates, average_replicates, percentile_interval
from cxr.metrics.classification import COUNTS, Value, binary_metrics, mean_value, multiclass_metrics


@dataclass(frozen=True)
class Estimates:
    """Metrics of one class against the rest, of their macro average, or of all classes together."""

    values: Mapping[str, Value]
    """By metric."""
    replicates: Mapping[str, Floats]
    """By metric, each of shape (R,); counts have none."""

    def row(self, metric: str) -> dict[str, Any]:
        """Return what a table holds of a metric: metric, value, ci_low, ci_high and reason."""
        value, reason = self.values[metric]
        low, high = percentile_interval(self.replicates.get(metric, np.empty(0)))
        return {"metric": metric, "value": value, "ci_low": low, "ci_high": high, "reason": reason}

    def rows(self, metrics: Iterable[str]) -> list[dict[str, Any]]:
        """Return a row for each of the metrics that there is."""
        return [self.row(metric) for metric in metrics if metric in self.values]

    def difference(self, metric: str, base: "Estimates") -> tuple[float, float, float]:
        """Return how much a metric exceeds another set's, and the bounds of the difference, both on the same draws."""
        low, high = percentile_interval(self.replicates[metric] - base.replicates[metric])
        return self.values[metric].value - base.values[metric].value, low, high

    def undefined(self, reason: str) -> "Estimates":
        """Return the same metrics, all NaN for one reason."""
        replicates = {metric: np.full_like(drawn, np.nan) for metric, drawn in self.replicates.items()}
        return Estimates({metric: Value(np.nan, reason) for metric in self.values}, replicates)


def estimate(
    truth: NDArray[np.bool_], predicted: NDArray[np.bool_], probability: Floats, replicates: Replicates
) -> Estimates:
    """Return every metric of one class against the rest.

    Args:
        truth: shape (n,), whether the image belongs to the class.
        predicted: shape (n,), whether it is predicted to.
        probability: shape (n,), of the class.
        replicates: of the n images.
    """
    return Estimates(binary_metrics(truth, predicted, probability), replicates.metrics(truth, predicted, probability))


def estimate_by_class(
    truth: NDArray[np.str_],
    predicted: NDArray[np.str_],
    probability: Floats,
    classes: Classes,
    replicates: Replicates,
) -> dict[str | None, Estimates]:
    """Return metrics by class name: the positive class of two; of more, each class, `macro`, and None for all.

    Args:
        truth: shape (n,), class names.
        predicted: shape (n,), class names.
        probability: shape (n, n_classes), columns in the order of `classes`.
        classes: in output order.
        replicates: of the n images.
    """
    if classes.positive is not None:
        name = classes.positive
        return {name: estimate(truth == name, predicted == name, probability[:, 1], replicates)}
    by_class = [
        replicates.metrics(truth == name, predicted == name, probability[:, column])
        for column, name in enumerate(classes)
    ]
    macro = average_replicates(by_class)
    overall = {"accuracy": replicates.mean(truth == predicted), "balanced_accuracy": macro["sensitivity"]}
    drawn = {**dict(zip(classes, by_class, strict=True)), MACRO: macro, None: overall}
    values = multiclass_metrics(truth, predicted, probability, classes)
    return {name: Estimates(by_metric, drawn[name]) for name, by_metric in values.items()}


def average_estimates(parts: Mapping[str, Estimates]) -> Estimates:
    """Return the mean of each metric over parts, such as folds; NaN where one is NaN: the others would flatter it.

    Args:
        parts: with the same draws, by the name that a reason gives them.
    """
    metrics = [metric for metric in next(iter(parts.values())).values if metric not in COUNTS]
    values = {m: mean_value({name: part.values[m] for name, part in parts.items()}) for m in metrics}
    replicates = {m: np.mean([part.replicates[m] for part in parts.values()], axis=0) for m in metrics}
    return Estimates(values, replicates)
