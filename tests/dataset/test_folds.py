import itertools

import numpy as np
import pandas as pd
import pytest

from cxr.config import TrainConfig
from cxr.dataset.folds import assign_folds, certify, group_images, read_folds
from cxr.errors import ConfigError, FoldError
from cxr.storage import files, verified
from cxr.training.run import Run


def make_pairs(*pairs: tuple[str, str]) -> pd.DataFrame:
    """Verified near-duplicates, as the table has them."""
    return pd.DataFrame(pairs, columns=["image_id_a", "image_id_b"]).assign(verified=True)


NO_PAIRS = make_pairs()


def draw_manifest(n_images: int = 300, seed: int = 0) -> pd.DataFrame:
    """Images of patients with 1 to 5 images, some without id, some copied byte for byte under another id."""
    generator = np.random.default_rng(seed)
    patient = generator.integers(0, n_images // 3, n_images)
    image_id = [f"{number:064x}" for number in range(n_images)]
    for copy, original in generator.integers(0, n_images, (10, 2)):
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


def twin_groups(images: pd.DataFrame, pairs: list[tuple[str, str]]) -> set[frozenset[int]]:
    """The slow obvious way: join rows that share an id or bytes, or are a pair, until nothing joins any more."""
    groups = [{row} for row in range(len(images))]
    for column in ("image_id", "patient_id"):
        for a, b in itertools.combinations(range(len(images)), 2):
            id_a, id_b = images[column].iloc[a], images[column].iloc[b]
            if (id_a == id_b and id_a is not None) or (id_a, id_b) in pairs or (id_b, id_a) in pairs:
                group_a, group_b = (next(g for g in groups if row in g) for row in (a, b))
                if group_a is not group_b:
                    group_a |= group_b
                    groups.remove(group_b)
    return {frozenset(group) for group in groups}


def test_groups_equal_those_of_a_slow_twin() -> None:
    images = draw_manifest(120)
    ids = images["image_id"].tolist()
    joined = [(ids[3], ids[70]), (ids[70], ids[9])]
    groups = group_images(images, make_pairs(*joined, (ids[5], "an image of the holdout")))
    assert {frozenset(rows) for rows in images.index.groupby(groups).values()} == twin_groups(images, joined)


def test_a_candidate_that_pixels_did_not_verify_joins_nothing() -> None:
    images = draw_manifest(120)
    unverified = make_pairs((images["image_id"][0], images["image_id"][1])).assign(verified=False)
    pd.testing.assert_series_equal(group_images(images, unverified), group_images(images, NO_PAIRS))


def test_near_duplicates_share_a_fold_and_leave_with_a_holdout() -> None:
    manifest, config = draw_manifest(), TrainConfig(data="x")
    apart = assign_folds(manifest, NO_PAIRS, config).drop_duplicates("fold")
    a, b = apart["image_id"].head(2)
    together = assign_folds(manifest, make_pairs((a, b)), config).set_index("path")["fold"]
    assert together[apart["path"].iloc[0]] == together[apart["path"].iloc[1]]
    held_out = manifest.loc[manifest["split"] == "test", "image_id"].iloc[0]
    free = manifest.loc[manifest["split"] == "train", "image_id"].iloc[0]
    folds = assign_folds(manifest, make_pairs((held_out, free)), TrainConfig(data="x", holdout="test"))
    assert free not in set(folds["image_id"])


def test_near_duplicates_moved_to_two_folds_are_refused_with_their_group() -> None:
    manifest, config = draw_manifest().assign(patient_id=None), TrainConfig(data="x")
    folds = assign_folds(manifest, NO_PAIRS, config)
    a, b = folds.drop_duplicates("fold")["image_id"].head(2)
    pairs = make_pairs((a, b))
    regrouped = folds.assign(group_id=group_images(manifest, pairs))
    with pytest.raises(FoldError, match=f"folds leak: 1 groups in two folds, first '{min(a, b)}'"):
        certify(manifest, pairs, regrouped, config)


@pytest.mark.parametrize("n_folds", [2, 5, 20])
def test_no_group_is_split_and_classes_stay_balanced(n_folds: int) -> None:
    manifest, config = draw_manifest(), TrainConfig(data="x", folds=n_folds)
    folds = assign_folds(manifest, NO_PAIRS, config)
    assert sorted(folds["fold"].unique()) == list(range(n_folds))
    assert folds.merge(manifest, on="path").groupby("patient_id")["fold"].nunique().max() == 1
    assert folds.groupby("image_id")["fold"].nunique().max() == 1
    assert len(folds) == folds["path"].nunique() == len(manifest)
    share = folds["label"].eq("A").groupby(folds["fold"]).mean()
    assert (share - manifest["label"].eq("A").mean()).abs().max() < 0.12


def test_folds_depend_on_the_seed_and_on_nothing_else() -> None:
    manifest, config = draw_manifest(), TrainConfig(data="x")
    pd.testing.assert_frame_equal(
        assign_folds(manifest, NO_PAIRS, config), assign_folds(manifest.copy(), NO_PAIRS, config)
    )
    assert not assign_folds(manifest, NO_PAIRS, config).equals(
        assign_folds(manifest, NO_PAIRS, TrainConfig(data="x", seed=1))
    )


def test_copies_have_a_fold_and_unreadable_images_have_none() -> None:
    manifest = draw_manifest()
    manifest.loc[0, "status"] = "unreadable"
    manifest.loc[1, "status"] = "duplicate"
    paths = set(assign_folds(manifest, NO_PAIRS, TrainConfig(data="x"))["path"])
    assert paths == set(manifest["path"]) - {manifest["path"][0]}


def test_a_holdout_is_left_out_with_every_copy_of_its_images() -> None:
    manifest, config = draw_manifest(), TrainConfig(data="x", holdout="test")
    folds = assign_folds(manifest, NO_PAIRS, config)
    held_out = manifest[manifest["split"] == "test"]
    assert not set(folds["image_id"]) & set(held_out["image_id"])
    certificate = certify(manifest, NO_PAIRS, folds, config)
    assert (certificate["holdout"], certificate["n_images_held_out"]) == ("test", len(held_out))


def test_a_holdout_that_is_no_split_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"--holdout 'val' names no split of the data, which has \['test', 'train'\]"):
        assign_folds(draw_manifest(), NO_PAIRS, TrainConfig(data="x", holdout="val"))


def test_a_class_with_fewer_groups_than_folds_is_refused() -> None:
    manifest = draw_manifest().query("label == 'A' or patient_id in ['p1', 'p3', 'p5']").reset_index(drop=True)
    with pytest.raises(FoldError, match=r"class 'B' has 3 groups .* fewer than the 5 folds: give --folds 3 or less"):
        assign_folds(manifest, NO_PAIRS, TrainConfig(data="x"))


def test_a_class_of_one_patient_is_refused_without_advice_that_cannot_help() -> None:
    manifest = draw_manifest().query("label == 'A' or patient_id == 'p1'").reset_index(drop=True)
    with pytest.raises(FoldError) as caught:
        assign_folds(manifest, NO_PAIRS, TrainConfig(data="x", folds=2))
    assert "class 'B' has 1 group of images (patients), fewer than the 2 folds: all belong to 'p1'" in str(caught.value)
    assert "--patient-pattern" in str(caught.value)
    assert "--folds 2" not in str(caught.value)


def test_the_certificate_counts_what_one_counts_by_hand() -> None:
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
    certificate = certify(
        manifest, NO_PAIRS, folds[["image_id", "path", "label", "group_id", "fold"]], TrainConfig(data="x")
    )
    assert certificate["n_groups"] == 4
    assert certificate["n_patient_ids"] == 3
    assert certificate["n_images_without_patient_id"] == 1
    assert certificate["patient_ids_crossing_archive_splits"] == {"coarse_key": 2, "series_key": 1}
    assert certificate["folds"][0] == {"fold": 0, "n_images": 4, "n_groups": 2, "n_images_per_class": {"A": 2, "B": 2}}
    assert {key: value for key, value in certificate.items() if key.endswith("_folds")} == {
        "groups_crossing_folds": 0,
        "patient_ids_crossing_folds": 0,
        "identical_bytes_crossing_folds": 0,
        "near_duplicates_crossing_folds": 0,
    }


def test_data_without_ids_says_that_leakage_is_not_excluded() -> None:
    manifest = draw_manifest().assign(patient_id=None)
    config = TrainConfig(data="x")
    folds = assign_folds(manifest, NO_PAIRS, config)
    assert folds["group_id"].nunique() == manifest["image_id"].nunique()
    assert certify(manifest, NO_PAIRS, folds, config)["patient_key"].startswith("none: no file name holds a patient id")


def test_the_certificate_says_where_ids_come_from() -> None:
    manifest, config = draw_manifest(), TrainConfig(data="x")
    assert certify(manifest, NO_PAIRS, assign_folds(manifest, NO_PAIRS, config), config)["patient_key"] == (
        f"file name, first group of {config.patient_pattern!r}"
    )
    manifest.loc[0, "patient_id"] = "dicom-0123456789abcdef"
    certificate = certify(manifest, NO_PAIRS, assign_folds(manifest, NO_PAIRS, config), config)
    assert certificate["patient_key"].startswith("PatientID of DICOM as a keyed hash, or file name")


def damage(folds: pd.DataFrame, how: str) -> pd.DataFrame:
    several = folds.groupby("group_id").filter(lambda group: len(group) > 1)
    row = several.index[0]
    match how:
        case "an image moved":
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
        ("an image moved", "folds leak: 1 groups in two folds, first '(person|IM|NORMAL2)"),
        ("a row dropped", r"folds are damaged: '.*' of group '.*' is missing"),
        ("a row doubled", "of group '.*' is in two rows"),
        ("a group moved whole", r"changed after they were certified \(folds\)"),
    ],
)
def test_folds_damaged_by_hand_are_refused_when_read(begin, how: str, sentence: str) -> None:
    run: Run = begin()
    verified.write_table(run.folder.folds, damage(files.read_table(run.folder.folds), how))
    with pytest.raises(FoldError, match=sentence):
        read_folds(run.folder, run.config)
