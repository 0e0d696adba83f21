"""Looks at labels in the order in which they came, and the evidence after each that a promise is broken.

A look is what was entered together of the images of one week, at most LARGEST patients, and waits for the next labels
while the class or the rest is missing. A patient is in the first look alone: what is known of a patient is no news. The
classes of a version share the wealth that the bets begin with.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from cxr.classes import Classes
from cxr.feedback.promises import Promises
from cxr.metrics.sequential import Look, evidence, wins_of

LARGEST = 400
"""Patients of a look, at most."""
LOOK_COLUMNS = {
    "model_version": "str",
    "class": "str",
    "look": "int64",
    "entry": "int64",
    "week": "str",
    "n_pairs": "int64",
    "roc_auc": "float64",
    "evidence": "float64",
    "highest": "float64",
}


def looks_table(images: pd.DataFrame, classes: Classes, promises: Promises) -> pd.DataFrame:
    """Return one row for each version and class that something is promised of and each look, with LOOK_COLUMNS.

    `evidence` is that the ROC-AUC is below the promise, `highest` the most that it ever was.

    Args:
        images: as `labelled_images` returns them.
        classes: of the model.
        promises: as `promises_of` returns them.
    """
    rows: list[dict[str, Any]] = []
    for version, by_class in promises.items():
        of_version = images[images["model_version"] == version]
        for name, promise in by_class.items():
            if not isinstance(promise, str):
                found = _judged_looks(of_version, name, promise, share=1 / len(classes.evaluated))
                rows += [{"model_version": version, "class": name} | row for row in found]
    return pd.DataFrame(rows, columns=list(LOOK_COLUMNS)).astype(LOOK_COLUMNS)


def _judged_looks(images: pd.DataFrame, name: str, promise: float, *, share: float) -> Iterator[dict[str, Any]]:
    """Yield what `looks_table` has of each look at a class of one version."""
    looks = list(_looks(images, name))
    found = evidence([look for _, look in looks], promise, share=share)
    for number, ((where, look), value) in enumerate(zip(looks, found, strict=True), 1):
        seen = {"n_pairs": look.n_pairs, "roc_auc": look.roc_auc, "evidence": value}
        most = float(found[:number].max())
        yield {"look": number, "highest": most} | where | seen


def _looks(images: pd.DataFrame, name: str) -> Iterator[tuple[dict[str, Any], Look]]:
    """Yield each look at a class of one version, with the entry and the week of the last labels in it."""
    waiting: list[pd.DataFrame] = []
    arrived = images.sort_values(["first_entry", "week", "scored_at", "image_id"])
    arrival = arrived["first_entry"].astype("str").str.zfill(9) + " " + arrived["week"]
    arrived = arrived[arrival == arrival.groupby(arrived["group"]).transform("min")]
    for _, together in arrived.groupby(["first_entry", "week"]):
        place = together["group"].factorize()[0] // LARGEST
        for _, part in together.groupby(place):
            waiting.append(part)
            look = _look_of(pd.concat(waiting), name)
            if look is not None:
                last = part.iloc[-1]
                yield {"entry": last["first_entry"], "week": last["week"]}, look
                waiting = []


def _look_of(images: pd.DataFrame, name: str) -> Look | None:
    """Return the look at some images; None if the class or the rest is missing.

    A patient with images of the class and of the rest is one of the class.
    """
    is_positive = images["label"] == name
    of_class = set(images.loc[is_positive, "group"])
    kept = images[is_positive | ~images["group"].isin(of_class)]
    score = kept[f"probability_{name}"].astype(float)
    by_patient = {group: np.asarray(values, np.float64) for group, values in score.groupby(kept["group"], sort=False)}
    positive = [values for group, values in by_patient.items() if group in of_class]
    negative = [values for group, values in by_patient.items() if group not in of_class]
    return Look(wins_of(positive, negative)) if positive and negative else None
