"""Where a version's calibration and thresholds come from, as its package.json says under `thresholds_from`.

A version that `cxr package` makes has them from out-of-fold predictions, for the prevalence of its images or for one
that was stated. A version that `cxr recalibrate` makes has them from labelled images of another site.
"""

from collections.abc import Mapping
from typing import Any, Literal

Source = Literal["out_of_fold", "labelled_images"]


def describe_origin(facts: Mapping[str, Any]) -> str:
    """Return where the thresholds come from, such as `out of fold` or `25 labelled images, from version 1`.

    Args:
        facts: the contents of a package.json.
    """
    origin = _origin(facts)
    sentence = "out of fold"
    if origin["source"] == "labelled_images":
        whose = " of where it was made" if "pulled" in facts else ""
        sentence = f"{sum(origin['n_images'].values())} labelled images, from version {origin['version']}{whose}"
    stated = origin["stated_prevalence"]
    return sentence if stated is None else f"{sentence}, for a prevalence of {100 * stated:g}%"


def recalibrated_from(facts: Mapping[str, Any]) -> str | None:
    """Return the version that this one was recalibrated from; None for one that was made from a run."""
    return _origin(facts).get("version")


def prevalence_of(facts: Mapping[str, Any]) -> float | None:
    """Return the share of positive images that the probabilities hold for; None if the package does not say."""
    origin = _origin(facts)
    return origin["prevalence"] if origin["stated_prevalence"] is None else origin["stated_prevalence"]


def _origin(facts: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return `thresholds_from`; packages of before have none."""
    return facts.get("thresholds_from", {"source": "out_of_fold", "prevalence": None, "stated_prevalence": None})
