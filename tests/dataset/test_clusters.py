import itertools

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import cdist

from cxr.config import TrainConfig
from cxr.dataset.clusters import LEAST_SHARE, _assign_nearest, assign_clusters, main_labels, measure_acquisition
from cxr.dataset.folds import assign_folds, certify, read_folds
from cxr.errors import FoldError
from cxr.storage import files, verified

SCANNERS = (
    {"width": 1400, "height": 1000, "mean": 120, "contrast": 50, "border": 80, "bytes_per_pixel": 0.15},
    {"width": 1000, "height": 1000, "mean": 90, "contrast": 60, "border": 30, "bytes_per_pixel": 0.12},
    {"width": 1900, "height": 1200, "mean": 150, "contrast": 40, "border": 60, "bytes_per_pixel": 0.21},
    {"width": 700, "height": 900, "mean": 60, "contrast": 70, "border": 100, "bytes_per_pixel": 0.30},
)
"""What the images of each scanner are like on average; each scatters by 5%."""


def draw_manifest(shares: dict[str, tuple[float, ...]], n_images: int = 400, seed: int = 0) -> pd.DataFrame:
    """Images of patients with one to four images, all of one scanner; each class has its shares of the scanners."""
    generator = np.random.default_rng(seed)
    rows = []
    while len(rows) < n_images:
        patient = len(rows)
        label = list(shares)[patient % len(shares)]
        scanner = generator.choice(len(shares[label]), p=shares[label])
        for _ in range(generator.integers(1, 5)):
            measures = {name: value * generator.normal(1, 0.05) for name, value in SCANNERS[scanner].items()}
            rows.append({"label": label, "patient_id": f"{label}-{patient}", "scanner": scanner, **measures})
    table = pd.DataFrame(rows)
    noise = {name: generator.uniform(0, 0.02, len(table)) for name in ("dark_share", "bright_share", "chroma")}
    table = table.round({"width": 0, "height": 0}).astype({"width": int, "height": int})
    n_bytes = (table["width"] * table["height"] * table["bytes_per_pixel"]).astype(int)
    names = [f"{number:05d}" for number in range(len(table))]
    facts = {"image_id": names, "path": [f"{n}.png" for n in names], "subtype": None, "split": "train"}
    facts |= {"mode": "L", "bits": 8, "status": "used", "n_bytes": n_bytes}
    return table.assign(**facts, **noise)


NO_PAIRS = pd.DataFrame({"image_id_a": [], "image_id_b": [], "verified": pd.Series([], dtype=bool)})
SHARED = draw_manifest({"A": (0.7, 0.15, 0.15), "B": (0.15, 0.25, 0.6)})
APART = draw_manifest({"A": (0.6, 0.4), "B": (0, 0, 0.5, 0.5)})


def by_cluster(manifest: pd.DataFrame, folds: int, seed: int = 0, pairs: pd.DataFrame = NO_PAIRS) -> pd.DataFrame:
    """The folds of a manifest, with its columns."""
    config = TrainConfig(data="x", folds=folds, leave_out="cluster", seed=seed)
    assigned = assign_folds(manifest, pairs, config)
    return assigned.merge(manifest.drop(columns=["image_id", "label"]), on="path")


def test_scanners_that_the_classes_share_are_found_and_left_out_whole_at_whatever_shares() -> None:
    images = by_cluster(SHARED, 3)
    assert images.groupby("fold")["scanner"].nunique().tolist() == [1, 1, 1]
    assert images.groupby("scanner")["fold"].nunique().tolist() == [1, 1, 1]
    assert images.groupby("fold")["label"].nunique().tolist() == [2, 2, 2]


def test_more_clusters_than_scanners_part_a_scanner_for_both_classes_alike() -> None:
    images = by_cluster(SHARED, 4)
    assert images.groupby("fold")["scanner"].nunique().max() == 1


def test_classes_of_different_scanners_lose_one_each_so_that_each_fold_has_both() -> None:
    images = by_cluster(APART, 2)
    assert images.groupby("fold")["label"].nunique().tolist() == [2, 2]
    assert images.groupby(["fold", "label"])["scanner"].nunique().tolist() == [1, 1, 1, 1]


def test_three_classes_meet_in_the_cluster_of_their_scanner() -> None:
    manifest = draw_manifest({"A": (0.6, 0.4), "B": (0.3, 0.7), "C": (0.5, 0.5)})
    images = by_cluster(manifest, 2)
    assert images.groupby("fold")["scanner"].nunique().tolist() == [1, 1]
    assert images.groupby("fold")["label"].nunique().tolist() == [3, 3]


@pytest.mark.parametrize("n_folds", [2, 5, 20])
def test_no_patient_crosses_and_every_cluster_has_a_share_of_every_class(n_folds: int) -> None:
    images = by_cluster(SHARED, n_folds)
    assert images.groupby("patient_id")["fold"].nunique().max() == 1
    assert len(images) == len(SHARED)
    groups = images.drop_duplicates("group_id").groupby(["label", "fold"]).size().unstack(fill_value=0)
    assert groups.shape == (2, n_folds)
    for label, n_groups in groups.iterrows():
        assert n_groups.min() >= max(1, int(LEAST_SHARE * n_groups.sum() / n_folds)), label
    sizes = images["fold"].value_counts().sort_index().tolist()
    assert sizes == sorted(sizes, reverse=True), "cluster 0 is the largest"


def test_near_duplicates_of_two_scanners_stay_together() -> None:
    a, b = (SHARED.loc[(SHARED["label"] == "A") & (SHARED["scanner"] == k), "image_id"].iloc[0] for k in (0, 1))
    pairs = pd.DataFrame({"image_id_a": [a], "image_id_b": [b], "verified": [True]})
    fold = by_cluster(SHARED, 3, pairs=pairs).set_index("image_id")["fold"]
    assert fold[a] == fold[b]


def test_a_patient_of_two_scanners_goes_where_the_mean_of_the_images_is() -> None:
    manifest = SHARED.copy()
    of_scanner_0 = manifest.index[(manifest["label"] == "A") & (manifest["scanner"] == 0)][:3]
    of_scanner_1 = manifest.index[(manifest["label"] == "A") & (manifest["scanner"] == 1)][:1]
    manifest.loc[of_scanner_0.union(of_scanner_1), "patient_id"] = "A-both"
    images = by_cluster(manifest, 3)
    home = images.loc[(images["scanner"] == 0) & (images["patient_id"] != "A-both"), "fold"].mode().item()
    assert images.loc[images["patient_id"] == "A-both", "fold"].unique().tolist() == [home]


def test_clusters_depend_on_the_seed_and_not_on_the_order_of_the_images() -> None:
    config = TrainConfig(data="x", folds=5, leave_out="cluster")
    folds = assign_folds(SHARED, NO_PAIRS, config)
    pd.testing.assert_frame_equal(folds, assign_folds(SHARED.copy(), NO_PAIRS, config))
    mixed = assign_folds(SHARED.sample(frac=1, random_state=0), NO_PAIRS, config)
    pd.testing.assert_frame_equal(folds, mixed.sort_values("path", ignore_index=True))


def test_a_patient_whose_images_are_unlike_all_others_is_no_cluster_of_its_own() -> None:
    manifest = SHARED.copy()
    odd = manifest["patient_id"] == manifest["patient_id"][0]
    manifest.loc[odd, ["width", "height", "mean", "border"]] = [60000, 4, 255.0, 255.0]
    images = by_cluster(manifest, 3)
    others = images[images["patient_id"] != manifest["patient_id"][0]]
    assert others.groupby("fold")["scanner"].nunique().max() == 1


def test_a_small_cluster_takes_in_what_costs_the_least_detour() -> None:
    points, centres = np.array([[0.0], [1.0], [2.0], [3.0], [4.0], [9.0]]), np.array([[2.0], [9.0]])
    assert _assign_nearest(cdist(points, centres), 1).tolist() == [0, 0, 0, 0, 0, 1]
    assert _assign_nearest(cdist(points, centres), 3).tolist() == [0, 0, 0, 1, 1, 1]
    distance = cdist(np.random.default_rng(0).normal(size=(8, 2)), [[0, 0], [3, 3]])
    assigned = _assign_nearest(distance, 3)
    cost = {
        rows: sum(distance[row, int(row in rows)] for row in range(8)) for rows in itertools.combinations(range(8), 3)
    }
    assert tuple(np.flatnonzero(assigned)) == min(cost, key=lambda rows: cost[rows])


def test_a_group_counts_as_the_class_of_most_of_its_images_and_in_a_tie_as_the_rarest() -> None:
    images = pd.DataFrame({"group_id": list("ppqqqrs"), "label": list("ABAABAA")})
    assert main_labels(images).to_dict() == {"p": "B", "q": "A", "r": "A", "s": "A"}


def test_measures_are_the_manifests_and_rare_categories_do_not_count() -> None:
    manifest = SHARED.head(100).assign(mode=["RGB"] * 10 + ["P"] * 2 + ["L"] * 88)
    manifest["patient_id"] = [f"NORMAL2-IM-{k}" if k % 2 else f"IM-{k}" for k in range(99)] + [None]
    measures = measure_acquisition(manifest)
    first = manifest.iloc[0]
    assert measures["pixels"][0] == first["width"] * first["height"]
    assert measures["aspect"][0] == first["width"] / first["height"]
    assert measures["bytes_per_pixel"][0] == pytest.approx(first["n_bytes"] / first["width"] / first["height"])
    categories = measures.iloc[:, 9:]
    assert categories.sum().to_dict() == {
        "stored as L, 8 bits": 88,
        "stored as RGB, 8 bits": 10,
        "series IM-": 50,
        "series NORMAL2-IM-": 49,
    }


def test_a_series_or_a_way_of_storing_is_a_cluster_where_all_else_is_alike() -> None:
    manifest = draw_manifest({"A": (1.0,), "B": (1.0,)}).drop(columns="patient_id")
    alike = dict.fromkeys(("width", "height", "n_bytes"), 1000) | {"mean": 90.0, "contrast": 40.0, "border": 30.0}
    alike |= dict.fromkeys(("dark_share", "bright_share", "chroma"), 0.0)
    number = np.arange(len(manifest))
    series = np.where(number % 3 == 0, "NORMAL2-IM-", "IM-")
    manifest = manifest.assign(**alike, patient_id=[f"{s}{n}" for s, n in zip(series, number, strict=True)])
    images = by_cluster(manifest, 2)
    assert pd.crosstab(images["fold"], images["patient_id"].str.startswith("NORMAL2")).to_numpy().astype(
        bool
    ).tolist() == [
        [True, False],
        [False, True],
    ]
    with pytest.raises(
        FoldError,
        match=r"class '[AB]' has 2 groups .* that differ in how they were acquired, fewer than "
        "the 5 folds .*: give --folds 2 or less, or --leave-out patient",
    ):
        by_cluster(manifest, 5)
    with pytest.raises(FoldError, match=r"class '[AB]' has 1 groups .*: give --leave-out patient"):
        by_cluster(manifest.assign(patient_id=number.astype(str)), 5)


def test_a_class_with_fewer_patients_than_clusters_is_refused() -> None:
    few = SHARED[
        (SHARED["label"] == "A") | SHARED["patient_id"].isin(SHARED.query("label == 'B'")["patient_id"].unique()[:3])
    ]
    with pytest.raises(FoldError, match=r"class 'B' has 3 groups .* fewer than the 5 folds: give --folds 3 or less"):
        by_cluster(few.reset_index(drop=True), 5)


def test_a_class_whose_patients_all_count_as_another_is_refused() -> None:
    manifest = SHARED.query("label == 'A'").reset_index(drop=True)
    third = manifest.groupby("patient_id").cumcount() == 2
    with pytest.raises(FoldError, match=r"class 'B' has 0 groups"):
        assign_clusters(
            manifest.assign(label=manifest["label"].mask(third, "B"), group_id=manifest["patient_id"]), 2, 0
        )


def test_the_certificate_says_that_clusters_were_left_out_and_patients_kept_together() -> None:
    config = TrainConfig(data="x", folds=3, leave_out="cluster")
    folds = assign_folds(SHARED, NO_PAIRS, config)
    certificate = certify(SHARED, NO_PAIRS, folds, config)
    assert certificate["leave_out"] == "cluster"
    assert certificate["groups_crossing_folds"] == certificate["patient_ids_crossing_folds"] == 0
    moved = folds.assign(fold=folds["fold"].mask(folds.index == folds.index[0], 1 - folds["fold"] % 2))
    assert folds["group_id"].eq(folds["group_id"][0]).sum() > 1
    with pytest.raises(FoldError, match="folds leak: 1 groups in two folds"):
        certify(SHARED, NO_PAIRS, moved, config)


def test_a_certificate_from_before_there_were_clusters_is_one_of_patients(begin) -> None:
    run = begin()
    certificate = files.read_json(run.folder.certificate)
    assert certificate.pop("leave_out") == "patient"
    verified.write_json(run.folder.certificate, certificate)
    assert len(read_folds(run.folder, run.config))
