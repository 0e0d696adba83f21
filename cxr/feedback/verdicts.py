"""The verdict: whether a version keeps what its package promises, by evidence that may be looked at every night.

What is promised is the lower bound of the 95 % interval of the ROC-AUC in package.json. Labels are looked at in the
order in which they came: a look is what was entered together of the images of one week, at most LARGEST patients, and
waits for the next labels while one class is missing. A patient is in the first look alone: what is known of a patient
is no news.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from cxr.classes import Classes
from cxr.errors import CxrError
from cxr.metrics.sequential import MOST_PROMISED, SURE, Look, evidence, pairs_needed, wins_of
from cxr.serving.package import load_package
from cxr.storage.model_folder import ModelFolder

Word = Literal["as promised", "surely below", "too few labels to tell", "nothing promised"]
LARGEST = 400
"""Patients of a look, at most."""
LOOK_COLUMNS = {
    "model_version": "str",
    "look": "int64",
    "entry": "int64",
    "week": "str",
    "n_pairs": "int64",
    "roc_auc": "float64",
    "evidence": "float64",
    "highest": "float64",
}
VERDICT_COLUMNS = {
    "model_version": "str",
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


def promises_of(model: ModelFolder, versions: list[str]) -> dict[str, float | str]:
    """Return by version the ROC-AUC that its package promises at least, or why it promises nothing."""
    return {version: _promise_of(model, version) for version in versions}


def _promise_of(model: ModelFolder, version: str) -> float | str:
    try:
        return promise_of(load_package(model.version(version)).facts["metrics"])
    except CxrError:
        return "its package is gone or damaged"


def promise_of(metrics: Sequence[Mapping[str, Any]]) -> float | str:
    """Return the lower bound of a package's own interval, at most MOST_PROMISED, or why it promises nothing.

    Args:
        metrics: of its package.json, in percent.
    """
    low = next((row["ci_low"] for row in metrics if row["metric"] == "roc_auc"), None)
    return min(low / 100, MOST_PROMISED) if low else "its package has no interval of the ROC-AUC"


def looks_table(images: pd.DataFrame, classes: Classes, promises: Mapping[str, float | str]) -> pd.DataFrame:
    """Return one row for each version that promises something and each look, with LOOK_COLUMNS.

    `evidence` is that the ROC-AUC is below the promise, `highest` the most that it ever was.

    Args:
        images: as `labelled_images` returns them.
        classes: two, of the model.
        promises: as `promises_of` returns them.
    """
    rows: list[dict[str, Any]] = []
    for version, promise in promises.items():
        if isinstance(promise, str):
            continue
        looks = list(_looks(images[images["model_version"] == version], classes))
        found = evidence([look for _, look in looks], promise)
        for number, ((where, look), value) in enumerate(zip(looks, found, strict=True), 1):
            seen = {"n_pairs": look.n_pairs, "roc_auc": look.roc_auc, "evidence": value}
            most = float(found[:number].max())
            rows.append({"model_version": version, "look": number, "highest": most} | where | seen)
    return pd.DataFrame(rows, columns=list(LOOK_COLUMNS)).astype(LOOK_COLUMNS)


def _looks(images: pd.DataFrame, classes: Classes) -> Iterator[tuple[dict[str, Any], Look]]:
    """Yield each look of a version, with the entry and the week of the last labels in it."""
    waiting: list[pd.DataFrame] = []
    arrived = images.sort_values(["first_entry", "week", "scored_at", "image_id"])
    arrival = arrived["first_entry"].astype("str").str.zfill(9) + " " + arrived["week"]
    arrived = arrived[arrival == arrival.groupby(arrived["group"]).transform("min")]
    for _, together in arrived.groupby(["first_entry", "week"]):
        place = together["group"].factorize()[0] // LARGEST
        for _, part in together.groupby(place):
            waiting.append(part)
            look = _look_of(pd.concat(waiting), classes)
            if look is not None:
                last = part.iloc[-1]
                yield {"entry": last["first_entry"], "week": last["week"]}, look
                waiting = []


def _look_of(images: pd.DataFrame, classes: Classes) -> Look | None:
    """Return the look at some images; None if a class is missing. A patient with both is one of the class."""
    is_positive = images["label"] == classes[1]
    of_class = set(images.loc[is_positive, "group"])
    kept = images[is_positive | ~images["group"].isin(of_class)]
    score = kept[classes.probability_columns[1]].astype(float)
    by_patient = {name: np.asarray(values, np.float64) for name, values in score.groupby(kept["group"], sort=False)}
    positive = [values for name, values in by_patient.items() if name in of_class]
    negative = [values for name, values in by_patient.items() if name not in of_class]
    return Look(wins_of(positive, negative)) if positive and negative else None


def verdicts_table(
    images: pd.DataFrame,
    performance: pd.DataFrame,
    looks: pd.DataFrame,
    promises: Mapping[str, float | str],
    entered: Mapping[int, pd.Timestamp],
    now: str,
) -> pd.DataFrame:
    """Return one row for each version, with VERDICT_COLUMNS.

    Args:
        images: as `labelled_images` returns them.
        performance: of them.
        looks: at them.
        promises: by version.
        entered: when each entry was given.
        now: the time in UTC, as ISO 8601.
    """
    overall = performance[performance["week"].isna() & (performance["metric"] == "roc_auc")]
    rows: list[dict[str, Any]] = []
    for row in overall.to_dict("records"):
        version = str(row["model_version"])
        promise = promises[version]
        own = looks[looks["model_version"] == version]
        weeks = images.loc[images["model_version"] == version, "week"]
        below = own.loc[own["highest"] >= SURE, "entry"]
        needed = None if isinstance(promise, str) else pairs_needed(promise)
        word, reason = _word(row, own, promise, needed)
        rows.append(
            {name: row[name] for name in ("model_version", "ci_low", "ci_high", "n_images", "n_positive", "n_patients")}
            | {"verdict": word, "reason": reason, "roc_auc": row["value"]}
            | {"promised": np.nan if isinstance(promise, str) else promise}
            | {"n_pairs": own["n_pairs"].sum(), "n_pairs_needed": needed}
            | {"evidence": own["highest"].max() if len(own) else np.nan}
            | {"below_since": entered[below.iloc[0]] if len(below) else pd.NaT}
            | {"first_week": weeks.min(), "last_week": weeks.max(), "judged_at": pd.Timestamp(now)}
        )
    table = pd.DataFrame(rows, columns=list(VERDICT_COLUMNS))
    times = {name: pd.to_datetime(table[name], utc=True) for name in ("below_since", "judged_at")}
    return table.assign(**times).astype(VERDICT_COLUMNS)


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
