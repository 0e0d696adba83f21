"""A finished run in parts: metrics within subgroups of its images, and its surest errors.

Subgroups are those that part the images: by subtype, image size, contrast, images of the patient, and the archive's split.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr.evaluation.out_of_fold import OutOfFold
from cxr.metrics.bootstrap import percentile_interval, replicate_metrics
from cxr.metrics.classification import binary_metrics

METRICS = ("roc_auc", "sensitivity", "specificity", "accuracy")
MANY_IMAGES = 2
"""A patient with at least as many images is a many-image patient."""


def subgroup_table(images: OutOfFold, manifest: pd.DataFrame) -> pd.DataFrame:
    """Return metrics within subgroups of images; one class against the rest, calls as in the main table.

    Columns: subgroup, level, class, metric, value, ci_low, ci_high, n, n_positive, reason.

    Args:
        images: the run's.
        manifest: the run's table of images, for size, contrast and split.
    """
    rows: list[dict[str, Any]] = []
    for name, truth, column in images.judged():
        score = images.probability[:, column]
        predicted = score >= 0.5 if images.is_binary else images.probability.argmax(axis=1) == column
        for subgroup, level, inside in subgroups(images, manifest, truth):
            values = binary_metrics(truth[inside], predicted[inside], score[inside])
            group = images.group[inside]
            replicates = replicate_metrics(truth[inside], predicted[inside], score[inside], group, images.drawn)
            where = {"subgroup": subgroup, "level": level, "class": name, "n": inside.sum()}
            where["n_positive"] = truth[inside].sum()
            for metric in METRICS:
                low, high = percentile_interval(replicates[metric])
                value, reason = values[metric]
                row = {"metric": metric, "value": value, "ci_low": low, "ci_high": high, "reason": reason}
                rows.append(where | row)
    return pd.DataFrame(rows).astype({"reason": "str"})


def subgroups(
    images: OutOfFold, manifest: pd.DataFrame, truth: NDArray[np.bool_]
) -> Iterator[tuple[str, str, NDArray[np.bool_]]]:
    """Yield subgroup, level and which images belong to it; only those that divide the images."""
    known = manifest.drop_duplicates("path").set_index("path").loc[images.predictions["path"]].reset_index()
    subtype = images.predictions["subtype"]
    for level in sorted(subtype[truth].dropna().unique()) if subtype[truth].nunique() > 1 else []:
        yield "subtype, against all others", level, (subtype == level).to_numpy() | ~truth
    quartiles = {
        "image size": (known["width"] * known["height"], "{:,.0f} px"),
        "contrast": (known["contrast"], "{:.1f} grey levels"),
    }
    for name, (values, told) in quartiles.items():
        yield from ((name, level, inside) for level, inside in _quartiles(values.astype(float), told))
    per_group = np.bincount(images.group)[images.group]
    parts = {
        "images of the patient": [("one", per_group < MANY_IMAGES), ("two or more", per_group >= MANY_IMAGES)],
        "split of the archive": [
            (s, (known["split"] == s).to_numpy()) for s in sorted(known["split"].dropna().unique())
        ],
    }
    for name, levels in parts.items():
        present = [(level, inside) for level, inside in levels if inside.any()]
        yield from ((name, level, inside) for level, inside in present if len(present) > 1)


def _quartiles(values: pd.Series, told: str) -> list[tuple[str, NDArray[np.bool_]]]:
    quarter = pd.qcut(values, 4, duplicates="drop")
    levels = quarter.cat.categories
    if len(levels) < 2:
        return []
    return [
        (f"{k} of {len(levels)}, to {told.format(level.right)}", (quarter == level).to_numpy())
        for k, level in enumerate(levels, 1)
    ]


def most_confident_errors(images: OutOfFold, n_worst: int = 6) -> pd.DataFrame:
    """Return the images that are most surely called wrongly: the worst of each class that is missed.

    Columns: path, image_id, fold, label, subtype, called, probability (calibrated, of the class it is called), rank.
    """
    predicted = images.calibrated.argmax(axis=1)
    table = images.predictions[["path", "image_id", "fold", "label", "subtype"]].assign(
        predicted=np.asarray(images.classes)[predicted], probability=images.calibrated.max(axis=1)
    )
    wrong = table[table["predicted"] != table["label"]].sort_values(["probability", "path"], ascending=[False, True])
    rank = wrong.groupby("label").cumcount() + 1
    return wrong.assign(rank=rank)[rank <= n_worst].sort_values(["label", "rank"], ignore_index=True)
