"""What a package promises: the lower bound of the 95% interval of the ROC-AUC in its package.json.

Of more than two classes, that of each class against the rest is a promise.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from cxr.classes import Classes
from cxr.errors import CxrError
from cxr.metrics.sequential import MOST_PROMISED
from cxr.serving.package import load_package
from cxr.storage.model_folder import ModelFolder

Promises = Mapping[str, Mapping[str, float | str]]
"""By version and class: the ROC-AUC that is promised at least, or why nothing is."""


def promises_of(model: ModelFolder, versions: Sequence[str], classes: Classes) -> Promises:
    """Return what the package of each version promises of each class that is evaluated."""
    return {version: _promises_of(model, version, classes) for version in versions}


def _promises_of(model: ModelFolder, version: str, classes: Classes) -> dict[str, float | str]:
    try:
        facts = load_package(model.version(version)).facts
    except CxrError:
        return dict.fromkeys(classes.evaluated, "its package is gone or damaged")
    return {name: promise_of(facts, classes, name) for name in classes.evaluated}


def promise_of(facts: Mapping[str, Any], classes: Classes, name: str) -> float | str:
    """Return the lower bound of a package's own interval, at most MOST_PROMISED, or why it promises nothing.

    Args:
        facts: package.json.
        classes: of the package.
        name: of the class.
    """
    if classes.is_binary:
        bounds = [row["ci_low"] for row in facts["metrics"] if row["metric"] == "roc_auc"]
        low = bounds[0] / 100 if bounds and bounds[0] else None
    else:
        of_class = [row for row in facts.get("metrics_by_class", []) if row["class"] == name]
        low = next((row["ci_low"] for row in of_class if row["metric"] == "roc_auc"), None)
    return min(low, MOST_PROMISED) if low else "its package has no interval of the ROC-AUC"
