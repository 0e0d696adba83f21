"""Arrays in, numbers out: scikit-learn's metrics, with NaN and a reason where they are undefined.

scikit-learn gives 0 (or a warning) for a precision without positive calls or an AUC of one class; here
such a value is NaN, so that no average hides it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics as sk

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
        truth: shape (n,), is the image of the class.
        called: shape (n,), is it called so.
        probability: shape (n,), of the class.

    Source: Maier-Hein et al., Metrics Reloaded, Nat Methods 2024.
    """
    no_positive = None if truth.any() else "no image of the class"
    no_negative = None if (~truth).any() else "no image of another class"
    no_call = None if predicted.any() else "no image called so"
    one_class = no_positive or no_negative
    no_f1 = None if (truth | predicted).any() else "no image of the class and none called so"
    true_negative, false_positive, false_negative, true_positive = (
        sk.confusion_matrix(truth, predicted, labels=[False, True]).ravel().tolist()
    )
    return {
        "accuracy": _value(lambda: sk.accuracy_score(truth, predicted), None if len(truth) else "no image"),
        "balanced_accuracy": _value(lambda: sk.balanced_accuracy_score(truth, predicted), one_class),
        "precision": _value(lambda: sk.precision_score(truth, predicted), no_call),
        "sensitivity": _value(lambda: sk.recall_score(truth, predicted), no_positive),
        "specificity": _value(lambda: sk.recall_score(truth, predicted, pos_label=False), no_negative),
        "f1": _value(lambda: sk.f1_score(truth, predicted), no_f1),
        "roc_auc": _value(lambda: sk.roc_auc_score(truth, probability), one_class),
        "average_precision": _value(lambda: sk.average_precision_score(truth, probability), no_positive),
        "true_positive": Value(true_positive),
        "false_positive": Value(false_positive),
        "true_negative": Value(true_negative),
        "false_negative": Value(false_negative),
    }


def rates_at(truth: NDArray[np.bool_], probability: NDArray[np.float64], threshold: float) -> dict[str, Value]:
    """Return what calling images from a threshold up does: sensitivity, specificity, ppv, npv, accuracy, f1, COUNTS.

    `ppv` and `npv` are those at the images' own prevalence.

    Args:
        truth: shape (n,), is the image of the class.
        probability: shape (n,), of the class.
        threshold: an image is called so from this probability up.
    """
    predicted = probability >= threshold
    values = binary_metrics(truth, predicted, probability)
    no_other_call = "no image called otherwise" if predicted.all() else None
    named = {"sensitivity": values["sensitivity"], "specificity": values["specificity"], "ppv": values["precision"]}
    named["npv"] = _value(lambda: sk.precision_score(~truth, ~predicted), no_other_call)
    return named | {name: values[name] for name in ("accuracy", "f1", *COUNTS)}


def _value(compute, reason: str | None) -> Value:
    return Value(float("nan"), reason) if reason else Value(float(compute()))


def multiclass_metrics(
    truth: NDArray[np.str_], predicted: NDArray[np.str_], probability: NDArray[np.float64], classes: Sequence[str]
) -> dict[str | None, dict[str, Value]]:
    """Return metrics by class: one against the rest for each, their `macro` mean, and the overall ones (None).

    Args:
        truth: shape (n,), class names.
        called: shape (n,), class names.
        probability: shape (n, n_classes), columns in the order of `classes`.

    Source: one-versus-rest and macro averages as in scikit-learn's user guide, 3.4.4.
    """
    per_class = {
        name: binary_metrics(truth == name, predicted == name, probability[:, column])
        for column, name in enumerate(classes)
    }
    for values in per_class.values():
        del values["accuracy"], values["balanced_accuracy"]  # of the whole table, not of one class
    averaged = [name for name in per_class[classes[0]] if name not in COUNTS]
    missing = sorted(set(classes) - set(truth))
    overall = {
        "accuracy": _value(lambda: sk.accuracy_score(truth, predicted), None if len(truth) else "no image"),
        "balanced_accuracy": _value(
            lambda: sk.balanced_accuracy_score(truth, predicted), f"no image of class {missing[0]}" if missing else None
        ),
    }
    macro = {name: _macro([(c, per_class[c][name]) for c in classes]) for name in averaged}
    return {None: overall, "macro": macro, **per_class}


def _macro(values: list[tuple[str, Value]]) -> Value:
    reasons = [f"{name}: {value.reason}" for name, value in values if value.reason]
    return Value(float(np.mean([value.value for _, value in values])), "; ".join(reasons) or None)
