import itertools

import numpy as np
import pandas as pd
import pytest

from cxr import store
from cxr.config import TrainConfig
from cxr.errors import ConfigError, FoldError
from cxr.experiment import Experiment
from cxr.folds import assign_folds, certify, group_films, read_folds


def draw_manifest(n_films: int = 300, seed: int = 0) -> pd.DataFrame:
    """Films of patients with 1 to 5 films, some without id, some copied byte for byte under another id."""
    generator = np.random.default_rng(seed)
    patient = generator.integers(0, n_films // 3, n_films)
    image_id = [f"{number:064x}" for number in range(n_films)]
    for copy, original in generator.integers(0, n_films, (10, 2)):
        image_id[copy] = image_id[original]
    return pd.DataFrame(
        {
            "image_id": image_id,
            "path": [f"train/{'AB'[p % 2]}/{number}.png" for number, p in enumerate(patient)],
            "label": ["AB"[p % 2] for p in patient],
            "subtype": None,
            "split": np.where(patient % 7 == 0, "test", "train"),
            "patient_id": [None if p % 10 == 0 else f"p{p}" for p in patient],
            "status": "used",
        }
    )


def twin_groups(films: pd.DataFrame) -> set[frozenset[int]]:
    """The slow obvious way: join rows that share an id or bytes until nothing joins any more."""
    groups = [{row} for row in range(len(films))]
    for column in ("image_id", "patient_id"):
        for a, b in itertools.combinations(range(len(films)), 2):
            if films[column].iloc[a] == films[column].iloc[b] and films[column].iloc[a] is not None:
                group_a, group_b = (next(g for g in groups if row in g) for row in (a, b))
                if group_a is not group_b:
                    group_a |= group_b
                    groups.remove(group_b)
    return {frozenset(group) for group in groups}


def test_groups_equal_those_of_a_slow_twin() -> None:
    films = draw_manifest(120)
    groups = group_films(films)
    assert {frozenset(rows) for rows in films.index.groupby(groups).values()} == twin_groups(films)


@pytest.mark.parametrize("n_folds", [2, 5, 20])
def test_nothing_that_belongs_together_is_parted_and_classes_stay_balanced(n_folds: int) -> None:
    manifest, config = draw_manifest(), TrainConfig(data="x", folds=n_folds)
    folds = assign_folds(manifest, config)
    assert sorted(folds["fold"].unique()) == list(range(n_folds))
    assert folds.merge(manifest, on="path").groupby("patient_id")["fold"].nunique().max() == 1
    assert folds.groupby("image_id")["fold"].nunique().max() == 1
    assert len(folds) == folds["path"].nunique() == len(manifest)
    share = folds["label"].eq("A").groupby(folds["fold"]).mean()
    assert (share - manifest["label"].eq("A").mean()).abs().max() < 0.12


def test_folds_depend_on_the_seed_and_on_nothing_else() -> None:
    manifest, config = draw_manifest(), TrainConfig(data="x")
    pd.testing.assert_frame_equal(assign_folds(manifest, config), assign_folds(manifest.copy(), config))
    assert not assign_folds(manifest, config).equals(assign_folds(manifest, TrainConfig(data="x", seed=1)))


def test_copies_have_a_fold_and_unreadable_films_have_none() -> None:
    manifest = draw_manifest()
    manifest.loc[0, "status"] = "unreadable"
    manifest.loc[1, "status"] = "duplicate"
    paths = set(assign_folds(manifest, TrainConfig(data="x"))["path"])
    assert paths == set(manifest["path"]) - {manifest["path"][0]}


def test_a_holdout_is_left_out_with_every_copy_of_its_films() -> None:
    manifest, config = draw_manifest(), TrainConfig(data="x", holdout="test")
    folds = assign_folds(manifest, config)
    held_out = manifest[manifest["split"] == "test"]
    assert not set(folds["image_id"]) & set(held_out["image_id"])
    certificate = certify(manifest, folds, config)
    assert (certificate["holdout"], certificate["n_films_held_out"]) == ("test", len(held_out))


def test_a_holdout_that_is_no_split_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"--holdout 'val' names no split of the data, which has \['test', 'train'\]"):
        assign_folds(draw_manifest(), TrainConfig(data="x", holdout="val"))


def test_a_class_with_fewer_groups_than_folds_says_so() -> None:
    manifest = draw_manifest().query("label == 'A' or patient_id in ['p1', 'p3', 'p5']").reset_index(drop=True)
    with pytest.raises(FoldError, match=r"class 'B' has 3 groups .* fewer than the 5 folds: give --folds 3 or less"):
        assign_folds(manifest, TrainConfig(data="x"))


def test_the_certificate_counts_what_a_hand_counts() -> None:
    manifest = pd.DataFrame(
        {
            "image_id": ["1", "2", "3", "4", "5", "6"],
            "path": list("abcdef"),
            "label": ["A", "A", "A", "B", "B", "B"],
            "subtype": ["virus", "bacteria", None, None, None, None],
            "split": ["train", "test", "train", "train", "test", "test"],
            "patient_id": ["p1", "p1", "p2", "p3", "p3", None],
            "status": "used",
        }
    )
    folds = manifest.assign(group_id=["p1", "p1", "p2", "p3", "p3", "6"], fold=[0, 0, 1, 0, 0, 1])
    certificate = certify(manifest, folds[["image_id", "path", "label", "group_id", "fold"]], TrainConfig(data="x"))
    assert certificate["n_groups"] == 4
    assert certificate["n_patient_ids"] == 3
    assert certificate["n_films_without_patient_id"] == 1
    assert certificate["patient_ids_crossing_archive_splits"] == {"coarse_key": 2, "series_key": 1}
    assert certificate["folds"][0] == {"fold": 0, "n_films": 4, "n_groups": 2, "n_films_per_class": {"A": 2, "B": 2}}
    assert {key: value for key, value in certificate.items() if key.endswith("_folds")} == {
        "groups_crossing_folds": 0, "patient_ids_crossing_folds": 0, "identical_bytes_crossing_folds": 0,
    }  # fmt: skip


def test_data_without_ids_says_that_leakage_is_not_excluded() -> None:
    manifest = draw_manifest().assign(patient_id=None)
    config = TrainConfig(data="x")
    folds = assign_folds(manifest, config)
    assert folds["group_id"].nunique() == manifest["image_id"].nunique()
    assert certify(manifest, folds, config)["patient_key"].startswith("none: no file name holds a patient id")


def damage(folds: pd.DataFrame, how: str) -> pd.DataFrame:
    several = folds.groupby("group_id").filter(lambda group: len(group) > 1)
    row = several.index[0]
    match how:
        case "a film moved":
            return folds.assign(fold=folds["fold"].mask(folds.index == row, 1 - folds["fold"]))
        case "a row dropped":
            return folds.drop(index=row)
        case "a row doubled":
            return pd.concat([folds, folds.loc[[row]]])
        case "a group moved whole":
            moved = folds["group_id"] == folds["group_id"][row]
            return folds.assign(fold=folds["fold"].mask(moved, 1 - folds["fold"]))
    raise ValueError(how)


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ("a film moved", "folds leak: 1 groups crossing folds, first '(person|IM|NORMAL2)"),
        ("a row dropped", "1 films differ from the manifest"),
        ("a row doubled", "of group '.*' stands in two rows"),
        ("a group moved whole", r"changed after they were certified \(folds\)"),
    ],
)
def test_folds_damaged_by_hand_are_refused_when_read(begin, how: str, sentence: str) -> None:
    run: Experiment = begin()
    store.write_table(run.folder.folds, damage(store.read_table(run.folder.folds), how))
    with pytest.raises(FoldError, match=sentence):
        read_folds(run.folder, run.config)
