"""The suite of `folds.parquet`. Grain: one row per readable image outside the held-out split."""

from typing import TYPE_CHECKING

import pandas as pd

from cxr.config import DataConfig
from cxr.dataset.folds import trace_images
from cxr.wording import percent
from data_checks.expect import all_of, between, one_of, present
from data_checks.suite import Table
from data_checks.tolerances import Tolerances

if TYPE_CHECKING:
    from great_expectations.expectations.expectation import Expectation

TABLE = Table("folds", "one row per readable image outside the held-out split", ("path", "true_group"))


def describe(
    folds: pd.DataFrame, manifest: pd.DataFrame, near_duplicates: pd.DataFrame, config: DataConfig
) -> pd.DataFrame:
    """Return one row per image in the folds or the manifest, with the columns that the expectations ask about.

    `true_group` is the group that the manifest and the near-duplicates give the image.
    What is expected of a class does not apply to images with several findings; `findings` checks those.
    """
    images = trace_images(manifest, near_duplicates, folds, config)
    n_images = images["fold"].notna().sum()
    size = images.groupby("fold")["path"].transform("size")
    mean_size = n_images / max(images["fold"].nunique(), 1)
    by_class = images.assign(label=images["label"].mask(pd.Series(config.has_findings, images.index)))
    n_of_class = by_class.groupby(["fold", "label"])["path"].transform("size")
    share_in_all = by_class.groupby("label")["path"].transform("size") / n_images
    return images.assign(
        folds_of_group=images.groupby("group_id")["fold"].transform("nunique"),
        folds_of_patient=images.groupby("patient_id")["fold"].transform("nunique"),
        folds_of_these_bytes=images.groupby("image_id")["fold"].transform("nunique"),
        folds_of_its_copies=images.groupby("true_group")["fold"].transform("nunique"),
        group_as_made=(images["group_id"] == images["true_group"]).where(images["fold"].notna()).astype("object"),
        n_of_class_in_fold=n_of_class,
        prevalence_gap=(n_of_class / size - share_in_all).abs(),
        size_gap=(size / mean_size - 1).abs(),
        classes_in_fold=by_class.groupby("fold")["label"].transform("nunique").where(by_class["label"].notna()),
    )


def expectations(config: DataConfig, n_classes: int, limit: Tolerances) -> list["Expectation"]:
    """Return the suite. Clusters have the sizes and the prevalences that they have, but each needs enough images."""
    n_folds = config.folds
    group = "Every image is in the group that its patient, its bytes and its near-duplicates determine."
    classes = "Every fold has images of every class; otherwise its ROC-AUC is undefined."
    copies = "No image is in another fold than its near-duplicates."
    return [
        present("fold", "critical", "Every readable image is in a fold."),
        between("n_rows", "critical", "No image is in the folds twice.", most=1),
        present("true_group", "critical", "Every image in the folds is in the manifest."),
        one_of("group_as_made", "critical", group, [True]),
        all_of("fold", "critical", f"There are {n_folds} folds, and none is empty.", range(n_folds)),
        between("folds_of_group", "critical", "No group of images is in two folds.", most=1),
        between("folds_of_patient", "critical", "No patient is in two folds.", most=1),
        between("folds_of_these_bytes", "critical", "No two folds hold the same bytes.", most=1),
        between("folds_of_its_copies", "critical", copies, most=1),
        between("classes_in_fold", "warning", classes, least=n_classes),
        *(_balance(limit) if config.leave_out == "patient" else _enough(limit)),
    ]


def _balance(limit: Tolerances) -> list["Expectation"]:
    share = f"The share of a class in a fold is within {limit.prevalence_gap:g} of its share in all folds."
    size = f"The size of every fold is within {percent(limit.fold_size_gap)} of the mean size."
    return [
        between("prevalence_gap", "warning", share, most=limit.prevalence_gap),
        between("size_gap", "warning", size, most=limit.fold_size_gap),
    ]


def _enough(limit: Tolerances) -> list["Expectation"]:
    enough = (
        f"Every cluster has {limit.cluster_class_images:g} images or more of each class; metrics of fewer are coarse."
    )
    return [between("n_of_class_in_fold", "warning", enough, least=limit.cluster_class_images)]
