"""The suite of a batch's drift. Grain: one row per statistic compared with the model's out-of-fold images."""

from typing import TYPE_CHECKING

import pandas as pd

from cxr.wording import percent
from data_checks.expect import between, one_of
from data_checks.suite import Table
from data_checks.tolerances import Tolerances

if TYPE_CHECKING:
    from great_expectations.expectations.expectation import Expectation

TABLE = Table("drift", "one row per statistic compared with the model's out-of-fold images", ("name",))
TESTED = ["acquisition", "features", "scores"]


def describe(drift: pd.DataFrame, limit: Tolerances) -> pd.DataFrame:
    """Return the rows of `cxr.metrics.drift.compare` with the columns that the expectations ask about."""
    is_tested = drift["group"].isin(TESTED) & (drift["n"] >= limit.drift_images)
    differs = (drift["effect"] > limit.drift_effect) & (drift["p_value"] < limit.drift_p_value)
    return drift.assign(
        name=[in_words(*pair) for pair in zip(drift["group"], drift["statistic"], strict=True)],
        differs=differs.where(is_tested).astype("object"),
        too_few=(drift["n"] < limit.drift_images).where(drift["group"] == "features").astype("object"),
        novel_share=drift["effect"].where(drift["group"] == "novel_images"),
        accuracy_loss=-drift["effect"].where(drift["group"] == "accuracy"),
    )


def in_words(group: str, statistic: str) -> str:
    """Return how a person names a statistic, or what of it is compared with a limit."""
    if group == "scores":
        return f"probability of {statistic.removeprefix('probability_')}"
    return {
        "novel_images": "share of novel images",
        "accuracy": "loss of estimated accuracy",
    }.get(group, statistic.replace("_", " "))


def expectations(limit: Tolerances) -> list["Expectation"]:
    """Return the suite."""
    similar = (
        "Size, grey levels, features and scores are distributed as in the model's out-of-fold images "
        f"(a distance of at most {limit.drift_effect:g}, unless chance explains it)."
    )
    novel = f"At most {percent(limit.novel_share)} of the images are unlike all that the model was trained on."
    accuracy = (
        f"The estimated accuracy is at most {limit.accuracy_loss:g} below that of the model's out-of-fold images."
    )
    enough = f"There are at least {limit.drift_images:g} images, enough to compare their distributions."
    return [
        between("novel_share", "critical", novel, most=limit.novel_share),
        one_of("differs", "warning", similar, [False]),
        between("accuracy_loss", "warning", accuracy, most=limit.accuracy_loss),
        one_of("too_few", "info", enough, [False]),
    ]
