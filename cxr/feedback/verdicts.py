"""The verdict: whether a version keeps what its package promises, by evidence that may be looked at every night.

Of more than two classes each is judged against the rest, and a version that surely breaks one promise is surely below.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from cxr.classes import MACRO
from cxr.feedback.promises import Promises
from cxr.metrics.sequential import SURE, pairs_needed

Word = Literal["as promised", "surely below", "too few labels to tell", "nothing promised"]
WORST: tuple[Word, ...] = ("surely below", "too few labels to tell", "nothing promised", "as promised")
"""Of the verdicts on several classes, the first in this order is that on all together."""
VERDICT_COLUMNS = {
    "model_version": "str",
    "class": "str",
    "verdict": "str",
    "reason": "str",
    "promised": "float64",
    "roc_auc": "float64",
    "ci_low": "float64",
    "ci_high": "float64",
    "n_images": "int64",
    "n_positive": "int64",
    "n_patients": "int64",
    "n_pairs": "int64",
    "n_pairs_needed": "Int64",
    "evidence": "float64",
    "below_since": "datetime64[us, UTC]",
    "first_week": "str",
    "last_week": "str",
    "judged_at": "datetime64[us, UTC]",
}
MEASURED = ("model_version", "class", "ci_low", "ci_high", "n_images", "n_positive", "n_patients")
"""What a verdict has from the performance of all weeks."""


def verdicts_table(
    images: pd.DataFrame,
    performance: pd.DataFrame,
    looks: pd.DataFrame,
    promises: Promises,
    entered: Mapping[int, pd.Timestamp],
    now: str,
) -> pd.DataFrame:
    """Return one row for each version and class, with VERDICT_COLUMNS; of more than two classes, also `macro`.

    Args:
        images: as `labelled_images` returns them.
        performance: of them.
        looks: at them.
        promises: by version and class.
        entered: when each entry was given.
        now: the time in UTC, as ISO 8601.
    """
    overall = performance[performance["week"].isna() & (performance["metric"] == "roc_auc")]
    rows: list[dict[str, Any]] = []
    for version, of_version in overall.groupby("model_version", sort=False):
        weeks = images.loc[images["model_version"] == version, "week"]
        facts = {"first_week": weeks.min(), "last_week": weeks.max(), "judged_at": pd.Timestamp(now)}
        by_class = promises[str(version)]
        found: list[dict[str, Any]] = []
        for row in of_version.to_dict("records"):
            measured = {name: row[name] for name in MEASURED} | {"roc_auc": row["value"]}
            if row["class"] == MACRO:
                found.append(measured | _together(found))
            else:
                own = looks[(looks["model_version"] == version) & (looks["class"] == row["class"])]
                share = 1 / len(by_class)
                found.append(measured | _verdict(row, own, by_class[row["class"]], entered, share=share))
        rows += [row | facts for row in found]
    table = pd.DataFrame(rows, columns=list(VERDICT_COLUMNS))
    times = {name: pd.to_datetime(table[name], utc=True) for name in ("below_since", "judged_at")}
    return table.assign(**times).astype(VERDICT_COLUMNS)


def _verdict(
    overall: Mapping[Any, Any],
    looks: pd.DataFrame,
    promise: float | str,
    entered: Mapping[int, pd.Timestamp],
    *,
    share: float,
) -> dict[str, Any]:
    """Return the verdict on one class of a version, and what it rests on."""
    below = looks.loc[looks["highest"] >= SURE, "entry"]
    needed = None if isinstance(promise, str) else pairs_needed(promise, share=share)
    word, reason = _word(overall, looks, promise, needed)
    return {
        "verdict": word,
        "reason": reason,
        "promised": np.nan if isinstance(promise, str) else promise,
        "n_pairs": looks["n_pairs"].sum(),
        "n_pairs_needed": needed,
        "evidence": looks["highest"].max() if len(looks) else np.nan,
        "below_since": entered[below.iloc[0]] if len(below) else pd.NaT,
    }


def _together(by_class: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the verdict on all classes of a version from those on each: the worst, with the classes that it is of."""
    table = pd.DataFrame(by_class)
    word = next(word for word in WORST if (table["verdict"] == word).any())
    reason = None if word == "as promised" else "of " + ", ".join(table.loc[table["verdict"] == word, "class"])
    return {
        "verdict": word,
        "reason": reason,
        "promised": np.nan,
        "n_pairs": table["n_pairs"].min(),
        "n_pairs_needed": None,
        "evidence": table["evidence"].max(),
        "below_since": table["below_since"].min(),
    }


def _word(
    overall: Mapping[Any, Any], looks: pd.DataFrame, promise: float | str, needed: int | None
) -> tuple[Word, str | None]:
    """Return the verdict, and why there is no other."""
    if isinstance(promise, str) or needed is None:
        return "nothing promised", str(promise)
    if (looks["highest"] >= SURE).any():
        return "surely below", None
    n_pairs = int(looks["n_pairs"].sum())
    if n_pairs < needed:
        return "too few labels to tell", f"{n_pairs} pairs of patients with and without, of the {needed} needed"
    if overall["ci_high"] < promise:
        return "too few labels to tell", "the interval lies below the promise, but not surely over all looks"
    return "as promised", None
