"""Metrics within subgroups of a run's images, and the images to look at: most confident errors and label suspects.

Subgroups divide the images by subtype, image size, contrast, images of the patient, and the archive's split; and by the
columns of the tables of labels that `--subgroup-column` names.
"""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr.evaluation.out_of_fold import OutOfFold
from cxr.labels.facts import SUBGROUP
from cxr.metrics.confident_learning import rank_labels
from cxr.metrics.estimates import estimate
from cxr.storage import verified
from cxr.storage.run_folder import RunFolder

METRICS = ("roc_auc", "sensitivity", "specificity", "accuracy")
COLUMNS = {
    "subgroup": "str",
    "level": "str",
    "class": "str",
    "n": "int64",
    "n_positive": "int64",
    "metric": "str",
    "value": "float64",
    "ci_low": "float64",
    "ci_high": "float64",
    "reason": "str",
}
MANY_IMAGES = 2
"""Images of a patient from which on it counts as one with several."""


def with_subgroups(folder: RunFolder, manifest: pd.DataFrame) -> pd.DataFrame:
    """Return a run's manifest with the columns subgroup_<column> of its tables of labels, if it has such tables."""
    if not verified.exists(folder.labels):
        return manifest
    labels = verified.read_table(folder.labels)
    columns = [name for name in labels.columns if name.startswith(SUBGROUP)]
    return manifest.merge(labels[["path", *columns]], on="path", how="left")


def subgroup_table(images: OutOfFold, manifest: pd.DataFrame) -> pd.DataFrame:
    """Return metrics within subgroups of images, of each evaluated class; predictions are those of the main table.

    Columns: subgroup, level, class, n, n_positive, metric, value, ci_low, ci_high, reason.

    Args:
        images: of the run.
        manifest: the run's table of images, for size and contrast (if measured), split, and what `with_subgroups` adds.
    """
    rows: list[dict[str, Any]] = []
    for name, truth, column in images.one_vs_rest():
        score = images.probability[:, column]
        predicted = score >= 0.5 if images.is_binary else images.probability.argmax(axis=1) == column
        for subgroup, level, inside in subgroups(images, manifest, truth):
            replicates = images.replicates.part(inside)
            estimates = estimate(truth[inside], predicted[inside], score[inside], replicates)
            where = {"subgroup": subgroup, "level": level, "class": name, "n": inside.sum()}
            where["n_positive"] = truth[inside].sum()
            rows += [where | row for row in estimates.rows(METRICS)]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)


def subgroups(
    images: OutOfFold, manifest: pd.DataFrame, truth: NDArray[np.bool_]
) -> Iterator[tuple[str, str, NDArray[np.bool_]]]:
    """Yield each subgroup that divides the images: its name, its level, and which images are in it, shape (n,).

    Args:
        images: of the run.
        manifest: the run's table of images.
        truth: shape (n,), whether the image belongs to the evaluated class.
    """
    known = manifest.drop_duplicates("path").set_index("path").loc[images.predictions["path"]].reset_index()
    subtype = images.predictions["subtype"]
    for level in sorted(subtype[truth].dropna().unique()) if subtype[truth].nunique() > 1 else []:
        yield "subtype, against all others", level, (subtype == level).to_numpy() | ~truth
    quartiles = {}
    if "contrast" in known:  # measured, which needs the images
        quartiles = {
            "image size": (known["width"] * known["height"], "{:,.0f} px"),
            "contrast": (known["contrast"], "{:.1f} grey levels"),
        }
    for name, (values, unit) in quartiles.items():
        yield from ((name, level, inside) for level, inside in _quartiles(values.astype(float), unit))
    per_group = np.bincount(images.group)[images.group]
    parts = {
        "images of the patient": [("one", per_group < MANY_IMAGES), ("two or more", per_group >= MANY_IMAGES)],
        "split of the archive": [
            (split, (known["split"] == split).to_numpy()) for split in sorted(known["split"].dropna().unique())
        ],
    }
    for column in [name for name in known.columns if name.startswith(SUBGROUP)]:
        levels = sorted(known[column].dropna().unique(), key=_as_numbers)
        parts[column.removeprefix(SUBGROUP)] = [(level, (known[column] == level).to_numpy()) for level in levels]
    for name, levels in parts.items():
        present = [(level, inside) for level, inside in levels if inside.any()]
        yield from ((name, level, inside) for level, inside in present if len(present) > 1)


def _as_numbers(level: str) -> tuple[float, str]:
    """Return what sorts levels by the number that they begin with, then by name."""
    number = re.match(r"\d+(\.\d+)?", level)
    return (float(number.group()) if number else float("inf"), level)


def _quartiles(values: pd.Series, unit: str) -> list[tuple[str, NDArray[np.bool_]]]:
    """Return the name of each quarter and which values are in it; nothing where all values are in one."""
    quarter = pd.qcut(values, 4, duplicates="drop")
    levels = quarter.cat.categories
    if len(levels) < 2:
        return []
    return [
        (f"{k} of {len(levels)}, to {unit.format(level.right)}", (quarter == level).to_numpy())
        for k, level in enumerate(levels, 1)
    ]


def most_confident_errors(images: OutOfFold, n_worst: int = 6) -> pd.DataFrame:
    """Return the wrong predictions with the highest calibrated probability, up to `n_worst` of each true class.

    Columns: path, image_id, fold, label, subtype, predicted, probability (calibrated, of the predicted class), rank.
    """
    predicted = images.calibrated.argmax(axis=1)
    table = images.predictions[["path", "image_id", "fold", "label", "subtype"]].assign(
        predicted=np.asarray(images.classes)[predicted], probability=images.calibrated.max(axis=1)
    )
    wrong = table[table["predicted"] != table["label"]].sort_values(["probability", "path"], ascending=[False, True])
    rank = wrong.groupby("label").cumcount() + 1
    return wrong.assign(rank=rank)[rank <= n_worst].sort_values(["label", "rank"], ignore_index=True)


def label_suspects(images: OutOfFold) -> pd.DataFrame:
    """Return every image, ordered by how likely its label is wrong; the suspects come first.

    Columns: rank, path, image_id, group_id, fold, label, subtype, is_suspect, suggested_label (the most probable of the
    other classes; missing for an image that is no suspect), self_confidence (calibrated probability of the label),
    n_images_in_group, n_suspects_in_group.

    The probabilities are calibrated on the other folds. Before calibration, class weights shift them towards the rare
    class, and images of the common one would head the list whatever their labels.
    """
    ranked = rank_labels(images.calibrated, images.target)
    suggested = pd.Series(np.asarray(images.classes)[ranked.suggested], images.predictions.index)
    table = images.predictions[["path", "image_id", "group_id", "fold", "label", "subtype"]].assign(
        is_suspect=ranked.is_suspect,
        suggested_label=suggested.where(ranked.is_suspect).astype("str"),
        self_confidence=ranked.self_confidence,
    )
    of_group = table.groupby("group_id")["is_suspect"]
    table = table.assign(n_images_in_group=of_group.transform("size"), n_suspects_in_group=of_group.transform("sum"))
    table.insert(0, "rank", ranked.rank)
    return table.sort_values("rank", ignore_index=True)
