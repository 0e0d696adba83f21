from dataclasses import replace

import pandas as pd
import pytest

from cxr.config import DataConfig
from cxr.dataset.folds import assign_folds
from data_checks import folds
from data_checks.tolerances import Tolerances
from tests.data_checks.conftest import Failed

CONFIG = DataConfig(data="images", folds=2)
N_IMAGES = 80
MANIFEST = pd.DataFrame(
    {
        "image_id": [f"{k:064x}" for k in range(N_IMAGES)],
        "path": [f"{'AB'[k % 2]}/{k:02d}.png" for k in range(N_IMAGES)],
        "label": ["AB"[k % 2] for k in range(N_IMAGES)],
        "subtype": None,
        "split": "train",
        "patient_id": [f"p{k % 2}-{k // 4}" for k in range(N_IMAGES)],  # two images of each patient
        "status": "used",
    }
)
NO_PAIRS = pd.DataFrame({"image_id_a": [], "image_id_b": [], "verified": pd.Series([], dtype=bool)})
FOLDS = assign_folds(MANIFEST, NO_PAIRS, CONFIG)
FIRST = FOLDS.index == 0
MOVED = FOLDS.assign(fold=FOLDS["fold"].mask(FIRST, 1 - FOLDS["fold"]))
PATIENT_PARTED = {("folds_of_patient", "critical"), ("folds_of_group", "critical"), ("folds_of_its_copies", "critical")}
DAMAGE = {
    "none": (FOLDS, set()),
    "an image is missing": (FOLDS[~FIRST], {("fold", "critical")}),
    "an image is doubled": (pd.concat([FOLDS, FOLDS.iloc[[0]]], ignore_index=True), {("n_rows", "critical")}),
    "an image that nobody knows": (
        FOLDS.assign(path=FOLDS["path"].mask(FIRST, "A/unknown.png")),
        {("fold", "critical"), ("true_group", "critical"), ("group_as_made", "critical")},
    ),
    "a patient in two folds": (MOVED, PATIENT_PARTED),
    "another group": (
        FOLDS.assign(group_id=FOLDS["group_id"].mask(FIRST, "nobody")),
        {("group_as_made", "critical")},
    ),
    "a fold is empty": (FOLDS.assign(fold=0), {("fold", "critical")}),
    "a class in one fold only": (
        FOLDS.assign(fold=(FOLDS["label"] == "A").astype(int)),
        {("classes_in_fold", "warning"), ("prevalence_gap", "warning")},
    ),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_damaged_folds_are_found_with_their_severity(what: str, failed: Failed) -> None:
    table, expected = DAMAGE[what]
    limit = Tolerances()
    rows = folds.describe(table, MANIFEST, NO_PAIRS, CONFIG)
    assert failed(folds.TABLE, rows, folds.expectations(CONFIG, 2, limit)) == expected


def test_copies_in_two_folds_are_found_though_their_groups_are_not(failed: Failed) -> None:
    by_fold = FOLDS.drop_duplicates("fold")["image_id"].tolist()
    pair = pd.DataFrame({"image_id_a": by_fold[:1], "image_id_b": by_fold[1:], "verified": True})
    rows = folds.describe(FOLDS, MANIFEST, pair, CONFIG)
    found = failed(folds.TABLE, rows, folds.expectations(CONFIG, 2, Tolerances()))
    assert found == {("folds_of_its_copies", "critical"), ("group_as_made", "critical")}


def test_clusters_may_differ_in_size_and_prevalence_and_need_enough_of_each_class(failed: Failed) -> None:
    number = FOLDS["path"].str[2:4].astype(int)
    uneven = FOLDS.assign(fold=(number >= FOLDS["label"].map({"A": 20, "B": 28})).astype(int))  # 10 and 14 in fold 0
    rows = folds.describe(uneven, MANIFEST, NO_PAIRS, CONFIG)
    random = failed(folds.TABLE, rows, folds.expectations(CONFIG, 2, Tolerances()))
    assert random == {("size_gap", "warning"), ("prevalence_gap", "warning")}
    clusters = replace(CONFIG, leave_out="cluster")
    assert not failed(folds.TABLE, rows, folds.expectations(clusters, 2, Tolerances(cluster_class_images=10)))
    found = failed(folds.TABLE, rows, folds.expectations(clusters, 2, Tolerances(cluster_class_images=11)))
    assert found == {("n_of_class_in_fold", "warning")}


def test_no_class_is_expected_in_a_fold_of_several_findings() -> None:
    config = DataConfig(data="images", folds=2, task="multi", label_from="subtype")
    assert folds.describe(FOLDS, MANIFEST, NO_PAIRS, config)["classes_in_fold"].isna().all()
    assert folds.describe(FOLDS, MANIFEST, NO_PAIRS, CONFIG)["classes_in_fold"].eq(2).all()
