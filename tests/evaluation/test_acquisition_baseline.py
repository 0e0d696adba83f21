import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from cxr.classes import Classes
from cxr.evaluation.acquisition_baseline import compare_with_networks, measure_acquisition_baseline
from cxr.evaluation.out_of_fold import OutOfFold


def draw(seed: int, *, width_differs: bool, classes: str = "AB") -> tuple[pd.DataFrame, pd.DataFrame]:
    generator = np.random.default_rng(seed)
    n = 600
    label = generator.choice(list(classes), n)
    wider = (label == classes[-1]) * 300 * width_differs
    manifest = pd.DataFrame(
        {
            "path": [f"{number}.png" for number in range(n)],
            "image_id": "x",
            "label": label,
            "status": "used",
            "width": 1000 + wider + generator.normal(0, 100, n),
            "height": generator.normal(900, 100, n),
            "mode": "L",
            "mean": generator.normal(120, 10, n),
            "contrast": generator.normal(50, 5, n),
            "border": generator.normal(80, 8, n),
        }
    )
    folds = manifest[["path", "label", "image_id"]].assign(group_id=manifest["path"], fold=np.arange(n) % 5)
    return manifest, folds


def auc(baseline: pd.DataFrame, features: str) -> float:
    row = baseline[(baseline["features"] == features) & (baseline["metric"] == "roc_auc")]
    return row["value"].iloc[0]


def test_a_scanner_that_differs_by_class_is_found_and_chance_is_chance() -> None:
    baseline = measure_acquisition_baseline(*draw(0, width_differs=True), Classes("AB"))
    assert auc(baseline, "all") > 0.95
    assert auc(baseline, "width") > 0.95
    assert auc(baseline, "border") == pytest.approx(0.5, abs=0.07)
    assert auc(measure_acquisition_baseline(*draw(0, width_differs=False), Classes("AB")), "all") == pytest.approx(
        0.5, abs=0.07
    )


def test_the_spread_over_folds_is_that_of_their_own_values() -> None:
    manifest, folds = draw(0, width_differs=True)
    row = (
        measure_acquisition_baseline(manifest, folds, Classes("AB"))
        .query("features == 'width' and metric == 'roc_auc'")
        .iloc[0]
    )
    parts = [(folds["fold"] == k).to_numpy() for k in range(5)]
    alone = [roc_auc_score(folds["label"][part] == "B", manifest["width"][part]) for part in parts]  # one feature ranks
    assert [row["mean"], row["sd"]] == pytest.approx([np.mean(alone), np.std(alone, ddof=1)])


def test_images_of_the_held_out_fold_are_not_learnt_from() -> None:
    manifest, folds = draw(1, width_differs=False)
    only_there = folds["fold"].to_numpy() == 0
    leaking = manifest.assign(width=np.where(only_there, 1000 + 500 * (manifest["label"] == "B"), manifest["width"]))
    baseline = measure_acquisition_baseline(leaking, folds.assign(fold=np.where(only_there, 0, 1)), Classes("AB"))
    assert auc(baseline, "width") < 0.75, "what only fold 0 shows cannot be known when fold 0 is predicted"


def test_a_fold_that_leaves_one_class_to_learn_from_is_no_crash() -> None:
    manifest, folds = draw(3, width_differs=True)
    parted = folds.assign(fold=(folds["label"] == "B").astype(int))
    assert auc(measure_acquisition_baseline(manifest, parted, Classes("AB")), "all") == 0, (
        "each fold is predicted as the other class"
    )


def test_three_classes_are_averaged() -> None:
    baseline = measure_acquisition_baseline(*draw(2, width_differs=True, classes="ABC"), Classes("ABC"))
    assert 0.6 < auc(baseline, "all") < 0.9
    assert set(baseline["features"]) == {"all", "width", "height", "aspect", "mean", "contrast", "border", "mode"}


def predicted(folds: pd.DataFrame, odds: np.ndarray) -> OutOfFold:
    """Return predictions of the classes A and B with these log odds of B."""
    rows = folds.assign(logit_A=0.0, logit_B=odds, probability_A=1 / (1 + np.exp(odds)))
    return OutOfFold(rows.assign(probability_B=1 - rows["probability_A"]), Classes("AB"))


def test_networks_that_know_no_more_than_the_scanner_are_not_surely_better_and_others_are() -> None:
    manifest, folds = draw(3, width_differs=True)
    noise = np.random.default_rng(1).normal(0, 1, len(folds))
    as_the_scanner = predicted(folds, (manifest["width"] - 1150).to_numpy() / 100 + 0.2 * noise)
    assert compare_with_networks(as_the_scanner, manifest).set_index("model").loc["difference", "ci_low"] < 0

    manifest, folds = draw(3, width_differs=False)
    truth = (folds["label"] == "B").to_numpy()
    table = compare_with_networks(predicted(folds, 4 * (truth - 0.5) + noise), manifest.sample(frac=1, random_state=0))
    assert table["class"].unique().tolist() == ["B"]
    by_model = table.set_index("model")
    assert by_model.loc["networks", "value"] == pytest.approx(roc_auc_score(truth, 4 * (truth - 0.5) + noise))
    alone = measure_acquisition_baseline(manifest, folds, Classes("AB"))
    assert by_model.loc["acquisition", "value"] == pytest.approx(auc(alone, "all"))
    difference = by_model.loc["networks", "value"] - by_model.loc["acquisition", "value"]
    assert by_model.loc["difference", "value"] == pytest.approx(difference)
    assert 0 < by_model.loc["difference", "ci_low"] < difference < by_model.loc["difference", "ci_high"]


def test_of_more_than_two_classes_each_is_compared() -> None:
    manifest, folds = draw(5, width_differs=True, classes="ABC")
    odds = {f"logit_{name}": np.random.default_rng(ord(name)).normal(size=len(folds)) for name in "ABC"}
    total = sum(np.exp(values) for values in odds.values())
    rows = folds.assign(**odds, **{f"probability_{name}": np.exp(odds[f"logit_{name}"]) / total for name in "ABC"})
    table = compare_with_networks(OutOfFold(rows, Classes("ABC")), manifest)
    models = ["networks", "acquisition", "difference"]
    assert list(zip(table["class"], table["model"], strict=True)) == [
        (name, model) for name in "ABC" for model in models
    ]
