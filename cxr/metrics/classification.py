"""Classification metrics: scikit-learn's values, with NaN and a reason where a metric is undefined.

scikit-learn returns 0 (or a warning) for precision without positive predictions or the AUC of one class; here such a
value is NaN, so that no average hides it. What the four counts of a confusion matrix determine is computed from them:
a table has thousands of such values, and each of scikit-learn's functions looks through the labels again.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cxr.classes import MACRO

COUNTS = ("true_positive", "false_positive", "true_negative", "false_negative")
NAMES = (
    "accuracy",
    "balanced_accuracy",
    "precision",
    "sensitivity",
    "specificity",
    "f1",
    "roc_auc",
    "average_precision",
    *COUNTS,
)


class Value(NamedTuple):
    """A metric's value; where it is NaN, the reason."""

    value: float
    reason: str | None = None


def binary_metrics(
    truth: NDArray[np.bool_], predicted: NDArray[np.bool_], probability: NDArray[np.float64]
) -> dict[str, Value]:
    """Return every metric in NAMES for one class against the rest.

    Args:
        truth: shape (n,), whether the image belongs to the class.
        predicted: shape (n,), whether it is predicted to.
        probability: shape (n,), of the class.

    Source: Maier-Hein et al., Metrics Reloaded, Nat Methods 2024.
    """
    from sklearn import metrics as sk  # takes a second, and most commands measure nothing

    tp, fp = int((truth & predicted).sum()), int((~truth & predicted).sum())
    tn, fn = int((~truth & ~predicted).sum()), int((truth & ~predicted).sum())
    sensitivity = _share(tp, tp + fn, "no image of the class")
    specificity = _share(tn, tn + fp, "no image of another class")
    one_class = sensitivity.reason or specificity.reason
    return {
        "accuracy": _share(tp + tn, len(truth), "no image"),
        "balanced_accuracy": _value(lambda: (sensitivity.value + specificity.value) / 2, one_class),
        "precision": _share(tp, tp + fp, "no image predicted as the class"),
        "sensitivity": sensitivity,
        "specificity": specificity,
        "f1": _share(2 * tp, 2 * tp + fp + fn, "no image of the class and none predicted as it"),
        "roc_auc": _value(lambda: sk.roc_auc_score(truth, probability), one_class),
        "average_precision": _value(lambda: sk.average_precision_score(truth, probability), sensitivity.reason),
        "true_positive": Value(tp),
        "false_positive": Value(fp),
        "true_negative": Value(tn),
        "false_negative": Value(fn),
    }


def rates_at(truth: NDArray[np.bool_], probability: NDArray[np.float64], threshold: float) -> dict[str, Value]:
    """Return sensitivity, specificity, ppv, npv, accuracy, f1 and COUNTS at a threshold.

    `ppv` and `npv` are those at the images' own prevalence.

    Args:
        truth: shape (n,), whether the image belongs to the class.
        probability: shape (n,), of the class.
        threshold: an image is predicted to belong to the class from this probability up.
    """
    values = binary_metrics(truth, probability >= threshold, probability)
    tn, fn = (int(values[name].value) for name in ("true_negative", "false_negative"))
    named = {"sensitivity": values["sensitivity"], "specificity": values["specificity"], "ppv": values["precision"]}
    named["npv"] = _share(tn, tn + fn, "every image predicted as the class")
    return named | {name: values[name] for name in ("accuracy", "f1", *COUNTS)}


def _share(part: int, whole: int, undefined: str) -> Value:
    return Value(part / whole) if whole else Value(float("nan"), undefined)


def _value(compute: Callable[[], float], reason: str | None) -> Value:
    return Value(float("nan"), reason) if reason else Value(float(compute()))


def multiclass_metrics(
    truth: NDArray[np.str_], predicted: NDArray[np.str_], probability: NDArray[np.float64], classes: Sequence[str]
) -> dict[str | None, dict[str, Value]]:
    """Return metrics by class: each class against the rest, `macro` for their mean, and None for overall metrics.

    Args:
        truth: shape (n,), class names.
        predicted: shape (n,), class names.
        probability: shape (n, n_classes), columns in the order of `classes`.

    Source: one-versus-rest and macro averages as in scikit-learn's user guide, 3.4.4.
    """
    from sklearn import metrics as sk

    per_class = {
        name: binary_metrics(truth == name, predicted == name, probability[:, column])
        for column, name in enumerate(classes)
    }
    for values in per_class.values():
        del values["accuracy"], values["balanced_accuracy"]  # overall metrics, not of one class
    averaged = [name for name in per_class[classes[0]] if name not in COUNTS]
    missing = sorted(set(classes) - set(truth))
    overall = {
        "accuracy": _value(lambda: sk.accuracy_score(truth, predicted), None if len(truth) else "no image"),
        "balanced_accuracy": _value(
            lambda: sk.balanced_accuracy_score(truth, predicted), f"no image of class {missing[0]}" if missing else None
        ),
    }
    macro = {name: mean_value({c: per_class[c][name] for c in classes}) for name in averaged}
    return {None: overall, MACRO: macro, **per_class}


def mean_value(values: Mapping[str, Value]) -> Value:
    """Return the mean of a metric's values, by class or fold; NaN where one is NaN, with the reason and its name."""
    reasons = [f"{name}: {value.reason}" for name, value in values.items() if value.reason]
    return Value(float(np.mean([value.value for value in values.values()])), "; ".join(reasons) or None)
