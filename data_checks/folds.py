"""The suite of `folds.parquet`. Grain: one row per readable film outside the holdout."""

from typing import TYPE_CHECKING

import pandas as pd

from cxr.config import DataConfig
from cxr.dataset.folds import trace_films
from data_checks.expect import all_of, between, one_of, present
from data_checks.tolerances import Tolerances

if TYPE_CHECKING:
    from great_expectations.expectations.expectation import Expectation

GRAIN = "one row per readable film outside the holdout"
NAMES = ["path", "true_group"]


def describe(
    folds: pd.DataFrame, manifest: pd.DataFrame, near_duplicates: pd.DataFrame, config: DataConfig
) -> pd.DataFrame:
    """Return one row per film that the folds or the manifest know, beside what the expectations need."""
    films = trace_films(manifest, near_duplicates, folds, config)
    share = films.groupby(["fold", "label"])["path"].transform("size") / films.groupby("fold")["path"].transform("size")
    overall = films.groupby("label")["path"].transform("size") / films["fold"].notna().sum()
    size = films.groupby("fold")["path"].transform("size")
    mean_size = films["fold"].notna().sum() / max(films["fold"].nunique(), 1)
    return films.assign(
        folds_of_group=films.groupby("group_id")["fold"].transform("nunique"),
        folds_of_patient=films.groupby("patient_id")["fold"].transform("nunique"),
        folds_of_these_bytes=films.groupby("image_id")["fold"].transform("nunique"),
        folds_of_its_copies=films.groupby("true_group")["fold"].transform("nunique"),
        group_as_made=(films["group_id"] == films["true_group"]).where(films["fold"].notna()).astype("object"),
        prevalence_gap=(share - overall).abs(),
        size_gap=(size / mean_size - 1).abs(),
        classes_in_fold=films.groupby("fold")["label"].transform("nunique"),
    )


def expectations(n_folds: int, n_classes: int, limit: Tolerances) -> list["Expectation"]:
    """Return the suite."""
    made = "Every film is in the group that its patient, its bytes and its copies give it."
    classes = "Every fold has films of every class; without them its ROC-AUC is undefined."
    share = f"In each fold a class's share lies within {limit.prevalence_gap:g} of its share in all folds."
    size = f"Each fold's size lies within {limit.fold_size_gap:.0%} of the mean."
    copies = "A film and its near-duplicates do not stand in two folds."
    return [
        present("fold", "critical", "Every readable film stands in a fold."),
        between("n_rows", "critical", "No film stands in the folds twice.", most=1),
        present("true_group", "critical", "Every film of the folds is in the manifest."),
        one_of("group_as_made", "critical", made, [True]),
        all_of("fold", "critical", f"There are {n_folds} folds and none is empty.", range(n_folds)),
        between("folds_of_group", "critical", "No group of films stands in two folds.", most=1),
        between("folds_of_patient", "critical", "No patient stands in two folds.", most=1),
        between("folds_of_these_bytes", "critical", "The same bytes do not stand in two folds.", most=1),
        between("folds_of_its_copies", "critical", copies, most=1),
        between("classes_in_fold", "warning", classes, least=n_classes),
        between("prevalence_gap", "warning", share, most=limit.prevalence_gap),
        between("size_gap", "warning", size, most=limit.fold_size_gap),
    ]
