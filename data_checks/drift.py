"""The suite of a batch's drift. Grain: one row per statistic compared with the model's out-of-fold images."""

from typing import TYPE_CHECKING

import pandas as pd

from data_checks.expect import between, one_of
from data_checks.tolerances import Tolerances

if TYPE_CHECKING:
    from great_expectations.expectations.expectation import Expectation

GRAIN = "one row per statistic compared with the images that the model was judged on"
NAMES = ["group", "statistic"]
TESTED = ["acquisition", "features", "scores"]


def describe(drift: pd.DataFrame, limit: Tolerances) -> pd.DataFrame:
    """Return the rows of `cxr.drift.compare` beside what the expectations need."""
    is_tested = drift["group"].isin(TESTED) & (drift["n"] >= limit.drift_images)
    differs = (drift["effect"] > limit.drift_effect) & (drift["p_value"] < limit.drift_p_value)
    return drift.assign(
        differs=differs.where(is_tested).astype("object"),
        too_few=(drift["n"] < limit.drift_images).where(drift["group"] == "features").astype("object"),
        novel_share=drift["effect"].where(drift["group"] == "novel_images"),
        accuracy_loss=-drift["effect"].where(drift["group"] == "accuracy"),
    )


def expectations(limit: Tolerances) -> list["Expectation"]:
    """Return the suite."""
    alike = (
        "Size, grey levels, features and scores are spread as in the images the model was judged on "
        f"(a distance of at most {limit.drift_effect:g}, unless chance explains it)."
    )
    novel = f"At most {limit.novel_share:.0%} of the images are unlike all that the model was trained on."
    accuracy = f"The estimated accuracy is at most {limit.accuracy_loss:g} below that of the images it was judged on."
    few = f"There are {limit.drift_images:g} images or more, so that their spread can be compared."
    return [
        between("novel_share", "critical", novel, most=limit.novel_share),
        one_of("differs", "warning", alike, [False]),
        between("accuracy_loss", "warning", accuracy, most=limit.accuracy_loss),
        one_of("too_few", "info", few, [False]),
    ]
