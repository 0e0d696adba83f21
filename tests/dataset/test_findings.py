import logging

import numpy as np
import pandas as pd
import pytest

from cxr.classes import Findings
from cxr.config import DataConfig
from cxr.dataset.findings import (
    assign_by_findings,
    count_by_class,
    count_findings,
    describe_findings,
    known_labels,
    label_findings,
    require_finding_groups,
    stratify,
)
from cxr.dataset.folds import assign_folds, certify
from cxr.errors import ConfigError, FoldError
from tests.support.findings import FINDINGS, draw_labels

NO_PAIRS = pd.DataFrame(columns=["image_id_a", "image_id_b"]).assign(verified=True)
SEVERAL = DataConfig(data="x", task="multi", label_from="subtype")


def nullable(*values: bool | None) -> pd.Series:
    return pd.Series(values, dtype="boolean")


def draw_manifest(n_images: int = 600) -> pd.DataFrame:
    labels = draw_labels(n_images)
    facts = {
        "image_id": [f"{k:064x}" for k in range(n_images)],
        "path": [f"{k}.png" for k in range(n_images)],
        "subtype": None,
        "split": None,
        "patient_id": labels["group_id"],
        "status": "used",
    }
    manifest = labels.drop(columns="group_id").assign(**facts)
    return manifest.assign(label=describe_findings(manifest[FINDINGS.columns]))


def shares(labels: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Return each finding's share of the known images in each fold, shape (n_folds, n_findings)."""
    return np.array([np.nanmean(labels[fold == k], axis=0) for k in np.unique(fold)])


def test_the_label_names_what_is_present_and_what_is_unknown() -> None:
    labels = pd.DataFrame(
        {
            "finding_Effusion": nullable(True, False, None, False),
            "finding_Mass": nullable(True, False, True, None),
        }
    )
    assert describe_findings(labels).tolist() == ["Effusion|Mass", "no finding", "Effusion?|Mass", "Mass?"]


def test_subtypes_in_file_names_are_two_findings_and_a_name_without_one_is_unknown_among_others() -> None:
    manifest = pd.DataFrame({"path": list("abcd"), "subtype": ["bacteria", None, "virus", None]})
    found = label_findings(manifest, ["sick", "sick", "sick", "well"], SEVERAL)
    assert found["finding_bacteria"].tolist() == [True, pd.NA, False, False]
    assert found["finding_virus"].tolist() == [False, pd.NA, True, False]
    assert found["label"].tolist() == ["bacteria", "bacteria?|virus?", "virus", "no finding"]


def test_findings_of_a_table_are_taken_by_path() -> None:
    manifest = pd.DataFrame({"path": ["a", "b"], "subtype": [None, None]})
    table = pd.DataFrame({"Mass": nullable(True, None).array}, index=["b", "a"])
    found = label_findings(manifest, ["x", "x"], DataConfig(data="x", task="multi", labels=("t.csv",)), table)
    assert found["finding_Mass"].tolist() == [pd.NA, True]
    assert found["label"].tolist() == ["Mass?", "Mass"]


def test_folders_alone_say_nothing_of_several_findings() -> None:
    manifest = pd.DataFrame({"path": ["a"], "subtype": [None]})
    with pytest.raises(ConfigError, match="--task multi needs to know which findings an image has"):
        label_findings(manifest, ["x"], DataConfig(data="x", task="multi"))


@pytest.mark.parametrize("n_folds", [2, 5, 10])
def test_each_finding_has_its_share_in_every_fold_and_no_group_is_split(n_folds: int) -> None:
    images = draw_labels(1500)
    labels = known_labels(images, FINDINGS)
    fold = assign_by_findings(images, n_folds, seed=0)
    assert sorted(set(fold)) == list(range(n_folds))
    assert images.assign(fold=fold).groupby("group_id")["fold"].nunique().max() == 1
    deviation = np.abs(shares(labels, fold) - np.nanmean(labels, axis=0)).max()
    group = images["group_id"].factorize()[0]
    at_random = [np.random.default_rng(seed).permutation(group.max() + 1)[group] % n_folds for seed in range(20)]
    by_chance = [np.abs(shares(labels, fold) - np.nanmean(labels, axis=0)).max() for fold in at_random]
    assert deviation < 0.02
    assert deviation < min(by_chance)
    sizes = np.bincount(fold)
    assert sizes.max() - sizes.min() <= 0.05 * sizes.mean() + 9


def test_the_rarest_finding_is_spread_evenly_whatever_the_others_are() -> None:
    counts = np.array([[1, 1, 1]] * 4 + [[0, 1, 1]] * 16 + [[0, 0, 1]] * 20, dtype=float)
    fold = stratify(counts, 4, seed=3)
    for trait in range(3):
        assert np.bincount(fold, counts[:, trait]).tolist() == [counts[:, trait].sum() / 4] * 4


def test_findings_are_dealt_out_alike_for_one_seed_and_otherwise_for_another() -> None:
    images = draw_labels()
    np.testing.assert_array_equal(assign_by_findings(images, 5, 1), assign_by_findings(images.copy(), 5, 1))
    assert (assign_by_findings(images, 5, 1) != assign_by_findings(images, 5, 2)).any()


def test_images_are_counted_by_finding() -> None:
    images = pd.DataFrame({"group_id": ["a", "a", "b", "c"], "finding_Mass": nullable(True, True, False, None)})
    counts = {"n_present": 2, "n_absent": 1, "n_unknown": 1, "n_groups_present": 1, "n_groups_absent": 1}
    assert count_findings(images) == {"Mass": counts}
    assert count_by_class(images) == {"no Mass": 1, "Mass": 2}


def test_a_finding_of_one_patient_is_refused_and_one_of_few_is_said(caplog: pytest.LogCaptureFixture) -> None:
    group = [f"p{k}" for k in range(10)]
    rare = pd.DataFrame({"group_id": group, "finding_Hernia": nullable(*[k < 1 for k in range(10)])})
    with pytest.raises(FoldError, match=r"finding 'Hernia' is present in images of 1 groups \(patients\), and needs 2"):
        require_finding_groups(rare, 5)
    common = rare.assign(finding_Hernia=nullable(*[k > 0 for k in range(10)]))
    with pytest.raises(FoldError, match="finding 'Hernia' is absent in images of 1 groups"):
        require_finding_groups(common, 5)
    few = rare.assign(finding_Hernia=nullable(*[k < 3 for k in range(10)]))
    with caplog.at_level(logging.WARNING):
        require_finding_groups(few, 5)
    assert "finding 'Hernia' is present in images of 3 groups (patients), fewer than the 5 folds" in caplog.text
    with pytest.raises(FoldError, match="there are 10 groups of images"):
        require_finding_groups(few, 11)


def test_folds_hold_the_findings_and_the_certificate_counts_them() -> None:
    manifest = draw_manifest()
    folds = assign_folds(manifest, NO_PAIRS, SEVERAL)
    assert folds.columns.tolist() == ["image_id", "path", "label", "group_id", "fold", *FINDINGS.columns]
    certificate = certify(manifest, NO_PAIRS, folds, SEVERAL)
    assert certificate["patient_ids_crossing_folds"] == 0
    for name, column in zip(FINDINGS, FINDINGS.columns, strict=True):
        assert certificate["findings"][name]["n_present"] == manifest[column].sum()
        assert certificate["findings"][name]["n_unknown"] == manifest[column].isna().sum()
        in_folds = [fold["n_images_per_class"] for fold in certificate["folds"]]
        assert sum(counts[name] for counts in in_folds) == manifest[column].sum()
        assert sum(counts[f"no {name}"] for counts in in_folds) == (~manifest[column]).sum()


def test_findings_spelt_alike_are_refused() -> None:
    with pytest.raises(ConfigError, match="'Mass' and 'mass' differ only in letter case"):
        Findings.of_columns(["path", "finding_Mass", "finding_mass"])


@pytest.mark.parametrize("name", ["", "a|b", "macro"])
def test_a_name_that_would_be_taken_for_something_else_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot name a finding"):
        Findings.of_columns([f"finding_{name}"])
