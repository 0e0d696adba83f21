"""Numbers and names as a person reads them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    pass
import math

NOTHING = "–"
NO_BREAK = "\N{NO-BREAK SPACE}"


def in_words(values: Sequence[float], *, scale: float = 100, decimals: int = 1, sign: bool = False) -> str:
    """Return a value, a value and its standard deviation, or a value and its interval; a dash for what is NaN."""
    shown = (round(scale * one, decimals) + 0.0 for one in values)  # no -0.0
    value, *spread = (f"{one:{'+' if sign else ''},.{decimals}f}" for one in shown)
    if math.isnan(values[0]):
        return NOTHING
    is_known = not any(map(math.isnan, values[1:]))
    if len(spread) == 2:
        return f"{value} [{spread[0]},{NO_BREAK}{spread[1]}]" if is_known else f"{value} [{NOTHING}]"
    return f"{value} ± {spread[0]}" if spread and is_known else value


def said(name: Any) -> str:
    """Return a metric's or an operating point's name as a person says it."""
    names = {
        "roc_auc": "ROC-AUC",
        "average_precision": "Average precision",
        "f1": "F1",
        "half": "0.5",
        "ppv": "PPV",
        "npv": "NPV",
        "youden": "Youden",
        "sensitivity_95": "sensitivity ≥ 0.95",
        "specificity_95": "specificity ≥ 0.95",
        "ece": "ECE",
        "brier": "Brier score",
        "jpeg": "JPEG",
    }
    return names.get(str(name), str(name).replace("_", " "))
