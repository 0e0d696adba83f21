import numpy as np
import pandas as pd
import pytest
from scipy.stats import ks_2samp
from sklearn import metrics as sk

from cxr.classes import Classes
from cxr.evaluation.clusters import cluster_metrics_table, cluster_table
from cxr.evaluation.out_of_fold import OutOfFold
from tests.support.predictions import simulate

THREE = Classes(("A", "B", "C"))


def manifest_of(images: OutOfFold) -> pd.DataFrame:
    """A manifest of simulated images: those of fold 1 are larger, and half of them in colour."""
    n = len(images.predictions)
    generator = np.random.default_rng(1)
    first = images.fold == 1
    levels = {name: generator.normal(60, 9, n) for name in ("mean", "contrast", "border", "dark_share", "bright_share")}
    facts = {"width": generator.integers(500, 900, n) + 700 * first, "height": 500, "n_bytes": 40_000, "bits": 8}
    facts |= {"mode": np.where(first & (np.arange(n) % 2 == 0), "RGB", "L"), "chroma": 0.0}
    facts |= {"patient_id": "IM-" + images.predictions["group_id"].str.removeprefix("g")}
    return images.predictions[["path"]].assign(**facts, **levels).sample(frac=1, random_state=0)


def test_a_cluster_is_described_by_what_differs_most_from_the_other_images_of_its_class() -> None:
    images = simulate(n_folds=3)
    manifest = manifest_of(images)
    table = cluster_table(images, manifest)
    known = manifest.set_index("path").loc[images.predictions["path"]]
    pixels = (known["width"] * known["height"]).to_numpy()
    for k, label in enumerate(images.classes):
        inside, elsewhere = ((images.target == k) & mask for mask in (images.fold == 1, images.fold != 1))
        rows = table[(table["fold"] == 1) & (table["class"] == label)].set_index("measure")
        assert set(rows.index[:3]) == {"pixels", "aspect", "bytes_per_pixel"}
        assert rows["rank"].tolist() == list(range(1, len(rows) + 1))
        assert rows["effect"].is_monotonic_decreasing
        assert rows.loc["pixels", ["value", "elsewhere"]].tolist() == [
            np.median(pixels[m]) for m in (inside, elsewhere)
        ]
        assert rows.loc["pixels", "effect"] == ks_2samp(pixels[inside], pixels[elsewhere]).statistic == 1
        in_colour = (known["mode"] == "RGB").to_numpy()
        colour = rows.loc["stored as RGB, 8 bits"]
        assert colour["value"] == pytest.approx(in_colour[inside].mean())
        assert colour["elsewhere"] == 0
        assert colour["effect"] == pytest.approx(in_colour[inside].mean())
        assert (rows["n"] == inside.sum()).all()
        assert (rows["n_groups"] == images.predictions["group_id"][inside].nunique()).all()
    assert not {"chroma", "series IM-"} & set(table["measure"]), "they are the same in all images"


def test_a_clusters_metrics_are_scikit_learns_at_thresholds_that_the_other_clusters_chose() -> None:
    images = simulate(n_folds=3)
    table = cluster_metrics_table(images)
    truth, score = images.target == 1, images.calibrated[:, 1]
    for fold in range(3):
        inside = images.fold == fold
        rows = table[table["fold"] == fold].set_index(["operating_point", "metric"])
        assert (rows["n"] == inside.sum()).all()
        assert (rows["n_positive"] == truth[inside].sum()).all()
        auc = table[(table["fold"] == fold) & (table["metric"] == "roc_auc")].iloc[0]
        assert auc["value"] == pytest.approx(sk.roc_auc_score(truth[inside], images.probability[inside, 1]))
        assert auc["ci_low"] < auc["value"] < auc["ci_high"]
        false_positive_rate, sensitivity, thresholds = sk.roc_curve(
            truth[~inside], score[~inside], drop_intermediate=False
        )
        youden = thresholds[np.argmax(sensitivity - false_positive_rate)]
        for point, threshold in (("half", 0.5), ("youden", youden)):
            predicted = score[inside] >= threshold
            expected = {
                "sensitivity": sk.recall_score(truth[inside], predicted),
                "specificity": sk.recall_score(truth[inside], predicted, pos_label=False),
            }
            for metric, value in expected.items():
                row = rows.loc[(point, metric)]
                assert row["threshold"] == pytest.approx(threshold)
                assert row["value"] == pytest.approx(value)
                assert row["ci_low"] < row["value"] < row["ci_high"]
    assert len(table) == 3 * (1 + 5 * 2)


def test_the_worst_cluster_is_the_one_with_the_lowest_value_of_each_metric() -> None:
    images = simulate(n_folds=3)
    noise = np.random.default_rng(0).normal(0, 9, len(images.predictions)) * (images.fold == 2)
    worse = OutOfFold(images.predictions.assign(logit_PNEUMONIA=images.logits[:, 1] + noise), images.classes)
    table = cluster_metrics_table(worse)
    assert table.loc[(table["metric"] == "roc_auc") & table["is_worst"], "fold"].tolist() == [2]
    at_point = table.dropna(subset="operating_point").groupby(["operating_point", "metric"])
    assert (at_point["is_worst"].sum() < 3).all()
    assert at_point.apply(lambda rows: rows.loc[rows["value"].idxmin(), "is_worst"], include_groups=False).all()


def test_more_than_two_classes_have_metrics_of_the_most_probable_and_no_threshold() -> None:
    images = simulate(classes=THREE, n_folds=2)
    table = cluster_metrics_table(images)
    assert table[["operating_point", "threshold"]].isna().all(axis=None)
    inside = images.fold == 1
    predicted = np.asarray(THREE)[images.probability.argmax(axis=1)]
    row = table[(table["fold"] == 1) & (table["class"] == "B") & (table["metric"] == "sensitivity")].iloc[0]
    label = images.predictions["label"].to_numpy()
    assert row["value"] == pytest.approx(sk.recall_score(label[inside] == "B", predicted[inside] == "B"))
    assert set(table["class"]) == set(THREE)


def test_a_cluster_of_one_class_is_undefined_with_the_reason_and_never_the_worst() -> None:
    images = simulate(n_folds=2)
    kept = (images.fold == 0) | (images.target == 1)
    table = cluster_metrics_table(OutOfFold(images.predictions[kept].reset_index(drop=True), images.classes))
    rows = table[(table["fold"] == 1) & (table["metric"] != "sensitivity")]
    assert rows["value"].isna().all()
    assert not rows["is_worst"].any()
    assert set(rows["reason"]) == {"no image of another class"}
    rows = table[(table["fold"] == 0) & (table["operating_point"] == "youden")]
    assert rows["reason"].str.startswith("no threshold can be chosen").all()
