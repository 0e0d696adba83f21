"""The suite of `folds.parquet`. Grain: one row per readable image outside the holdout."""

from typing import TYPE_CHECKING

import pandas as pd

from cxr.config import DataConfig
from cxr.dataset.folds import trace_images
from data_checks.expect import all_of, between, one_of, present
from data_checks.tolerances import Tolerances

if TYPE_CHECKING:
    from great_expectations.expectations.expectation import Expectation

GRAIN = "one row per readable image outside the holdout"
NAMES = ["path", "true_group"]


def describe(
    folds: pd.DataFrame, manifest: pd.DataFrame, near_duplicates: pd.DataFrame, config: DataConfig
) -> pd.DataFrame:
    """Return one row per image that the folds or the manifest know, beside what the expectations need."""
    images = trace_images(manifest, near_duplicates, folds, config)
    share = images.groupby(["fold", "label"])["path"].transform("size") / images.groupby("fold")["path"].transform(
        "size"
    )
    overall = images.groupby("label")["path"].transform("size") / images["fold"].notna().sum()
    size = images.groupby("fold")["path"].transform("size")
    mean_size = images["fold"].notna().sum() / max(images["fold"].nunique(), 1)
    return images.assign(
        folds_of_group=images.groupby("group_id")["fold"].transform("nunique"),
        folds_of_patient=images.groupby("patient_id")["fold"].transform("nunique"),
        folds_of_these_bytes=images.groupby("image_id")["fold"].transform("nunique"),
        folds_of_its_copies=images.groupby("true_group")["fold"].transform("nunique"),
        group_as_made=(images["group_id"] == images["true_group"]).where(images["fold"].notna()).astype("object"),
        prevalence_gap=(share - overall).abs(),
        size_gap=(size / mean_size - 1).abs(),
        classes_in_fold=images.groupby("fold")["label"].transform("nunique"),
    )


def expectations(n_folds: int, n_classes: int, limit: Tolerances) -> list["Expectation"]:
    """Return the suite."""
    made = "Every image is in the group that its patient, its bytes and its copies give it."
    classes = "Every fold has images of every class; without them its ROC-AUC is undefined."
    share = f"In each fold a class's share lies within {limit.prevalence_gap:g} of its share in all folds."
    size = f"Each fold's size lies within {limit.fold_size_gap:.0%} of the mean."
    copies = "An image and its near-duplicates do not stand in two folds."
    return [
        present("fold", "critical", "Every readable image stands in a fold."),
        between("n_rows", "critical", "No image stands in the folds twice.", most=1),
        present("true_group", "critical", "Every image of the folds is in the manifest."),
        one_of("group_as_made", "critical", made, [True]),
        all_of("fold", "critical", f"There are {n_folds} folds and none is empty.", range(n_folds)),
        between("folds_of_group", "critical", "No group of images stands in two folds.", most=1),
        between("folds_of_patient", "critical", "No patient stands in two folds.", most=1),
        between("folds_of_these_bytes", "critical", "The same bytes do not stand in two folds.", most=1),
        between("folds_of_its_copies", "critical", copies, most=1),
        between("classes_in_fold", "warning", classes, least=n_classes),
        between("prevalence_gap", "warning", share, most=limit.prevalence_gap),
        between("size_gap", "warning", size, most=limit.fold_size_gap),
    ]
