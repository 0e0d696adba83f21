"""The verdict on each version, from labels in the order in which they came."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxr.classes import Classes
from cxr.feedback.looks import looks_table
from cxr.feedback.performance import labelled_images, performance_table
from cxr.feedback.promises import promise_of, promises_of
from cxr.feedback.verdicts import verdicts_table
from cxr.metrics.sequential import SURE, pairs_needed
from cxr.serving.package import load_package
from cxr.storage.model_folder import ModelFolder
from tests.support.scores import CLASSES, draw_scores, image_id_of

THREE = Classes(("NORMAL", "BACTERIA", "VIRUS"))
NOW = "2026-12-01T00:00:00+00:00"


def images_of(tmp_path: Path, n: int, shift: float, *, patients: int = 0, **labels: object) -> pd.DataFrame:
    """Labelled images, half of them of the class; `patients` of them share one patient each two images."""
    truth = np.arange(n) % 2 == 0
    scored = draw_scores(tmp_path, truth.tolist(), shift=shift).assign(key="")
    facts = {"image_id": [image_id_of(k) for k in range(n)], "label": np.where(truth, "PNEUMONIA", "NORMAL")}
    patient = [f"table-{k // 2}" if k < patients else None for k in range(n)]
    table = pd.DataFrame(facts | {"patient_id": patient, "first_entry": 1}).astype({"patient_id": "str"})
    return labelled_images(scored, table.assign(**labels))


def judged(images: pd.DataFrame, promise: float | str) -> tuple[pd.DataFrame, pd.Series]:
    classes = Classes(CLASSES)
    promises = {version: {"PNEUMONIA": promise} for version in images["model_version"].unique()}
    looks = looks_table(images, classes, promises)
    performance = performance_table(images, classes)
    entered = {entry: pd.Timestamp(f"2026-11-{entry:02}T00:00Z") for entry in images["first_entry"].unique()}
    return looks, verdicts_table(images, performance, looks, promises, entered, NOW).iloc[0]


def test_a_promise_that_is_kept_is_as_promised_once_the_labels_are_enough(tmp_path: Path) -> None:
    _, few = judged(images_of(tmp_path, 60, 3.0), 0.9)
    assert few["verdict"] == "too few labels to tell"
    assert few["reason"] == f"30 pairs of patients with and without, of the {pairs_needed(0.9)} needed"
    _, enough = judged(images_of(tmp_path, 2 * pairs_needed(0.9), 3.0), 0.9)
    assert (enough["verdict"], enough["promised"], enough["n_pairs"]) == ("as promised", 0.9, pairs_needed(0.9))
    assert enough["evidence"] < 1
    assert pd.isna(enough["below_since"])


def test_a_promise_that_is_broken_is_surely_below_since_the_labels_that_showed_it(tmp_path: Path) -> None:
    images = images_of(tmp_path, 400, 1.0)
    looks, verdict = judged(images.assign(first_entry=1 + np.arange(400) // 100), 0.9)
    assert verdict["verdict"] == "surely below"
    assert looks["entry"].tolist() == [1, 2, 3, 4]
    first = looks.loc[looks["highest"] >= SURE, "entry"].iloc[0]
    assert verdict["below_since"] == pd.Timestamp(f"2026-11-{first:02}T00:00Z")


def test_what_was_surely_below_once_stays_so_for_this_version(tmp_path: Path) -> None:
    bad = images_of(tmp_path, 80, 0.0)
    good = images_of(tmp_path, 1200, 6.0).assign(first_entry=2, group=lambda rows: "later " + rows["group"])
    looks, verdict = judged(pd.concat([bad, good], ignore_index=True), 0.9)
    assert looks["evidence"].iloc[-1] < SURE <= looks["highest"].iloc[-1]
    assert verdict["verdict"] == "surely below"


def test_an_interval_below_the_promise_is_not_sure_by_itself(tmp_path: Path) -> None:
    looks, verdict = judged(images_of(tmp_path, 400, 1.5), 0.875)
    assert verdict["ci_high"] < 0.9
    assert looks["highest"].max() < SURE
    if verdict["ci_high"] < 0.875:
        assert verdict["reason"] == "the interval lies below the promise, but not surely over all looks"


def test_a_patient_is_in_one_look_alone(tmp_path: Path) -> None:
    images = images_of(tmp_path, 80, 2.0, patients=80)  # both images of a patient: one of each class
    assert judged(images, 0.9)[0].empty, "no patient is without the class"
    again = images.assign(first_entry=2)
    alone = images_of(tmp_path, 80, 2.0)
    looks, _ = judged(pd.concat([alone, again.assign(group=alone["group"])], ignore_index=True), 0.9)
    assert looks[["entry", "n_pairs"]].to_numpy().tolist() == [[1, 40]]


def test_labels_of_one_class_wait_for_those_of_the_other(tmp_path: Path) -> None:
    images = images_of(tmp_path, 80, 2.0)
    entry = np.where(images["label"] == "PNEUMONIA", 1, 2)
    looks, _ = judged(images.assign(first_entry=entry), 0.9)
    assert looks[["entry", "n_pairs"]].to_numpy().tolist() == [[2, 40]]


def test_a_large_entry_is_several_looks(tmp_path: Path) -> None:
    looks, _ = judged(images_of(tmp_path, 1000, 2.0), 0.9)
    assert looks["n_pairs"].tolist() == [200, 200, 100]


def test_a_version_without_a_promise_is_not_judged(tmp_path: Path) -> None:
    looks, verdict = judged(images_of(tmp_path, 80, 0.0), "its package is gone or damaged")
    assert looks.empty
    assert (verdict["verdict"], verdict["reason"]) == ("nothing promised", "its package is gone or damaged")
    assert verdict["roc_auc"] == pytest.approx(0.5, abs=0.2)


def test_the_promise_is_the_lower_bound_of_the_packages_own_interval(home: Path) -> None:
    model = ModelFolder.named(home / "models", "tiny")
    facts = load_package(model.version("1")).facts
    (row,) = [row for row in facts["metrics"] if row["metric"] == "roc_auc"]
    assert promises_of(model, ["1", "7"], Classes(CLASSES)) == {
        "1": {"PNEUMONIA": row["ci_low"] / 100},
        "7": {"PNEUMONIA": "its package is gone or damaged"},
    }
    assert row["ci_low"] < 99


@pytest.mark.parametrize(
    ("low", "promise"),
    [(98.5, 0.985), (100.0, 0.99), (None, "its package has no interval of the ROC-AUC"), (0.0, "its package has no")],
)
def test_a_promise_of_certainty_counts_as_99_percent_and_one_of_nothing_is_none(
    low: float | None, promise: float | str
) -> None:
    metrics = [{"metric": "f1", "ci_low": 50.0}, {"metric": "roc_auc", "ci_low": low}]
    found = promise_of({"metrics": metrics}, Classes(CLASSES), "PNEUMONIA")
    assert found == promise or str(found).startswith(str(promise))
    assert promise_of({"metrics": []}, Classes(CLASSES), "PNEUMONIA") == "its package has no interval of the ROC-AUC"


def three_classes(n: int, shift: dict[str, float], seed: int = 0) -> pd.DataFrame:
    """Labelled images of three classes in turn; each scores higher for its own by `shift` standard deviations."""
    label = np.array(THREE)[np.arange(n) % 3]
    odds = np.random.default_rng(seed).normal(0, 1, (n, 3))
    odds += [[shift[name] * (name == own) for name in THREE] for own in label]
    facts = {"model_version": "1", "label": label, "predicted_label": np.array(THREE)[odds.argmax(axis=1)]}
    facts |= {"first_entry": 1, "week": "2026-W45", "scored_at": pd.Timestamp("2026-11-02T02:00Z")}
    images = pd.DataFrame(facts | dict(zip(THREE.probability_columns, (1 / (1 + np.exp(-odds))).T, strict=True)))
    name = [f"image {k}" for k in range(n)]
    return images.assign(image_id=name, group=name)


def judged_three(images: pd.DataFrame, promises: dict[str, float | str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    looks = looks_table(images, THREE, {"1": promises})
    verdicts = verdicts_table(
        images, performance_table(images, THREE), looks, {"1": promises}, {1: pd.Timestamp("2026-11-01T00:00Z")}, NOW
    )
    return looks, verdicts.set_index("class")


def test_the_classes_share_the_wealth_and_one_broken_promise_is_enough() -> None:
    images = three_classes(510, {"NORMAL": 5.0, "BACTERIA": 1.0, "VIRUS": 5.0})
    looks, verdicts = judged_three(images, dict.fromkeys(THREE, 0.97))
    assert verdicts["verdict"].to_dict() == {
        "NORMAL": "as promised",
        "BACTERIA": "surely below",
        "VIRUS": "as promised",
        "macro": "surely below",
    }
    assert verdicts.loc["macro", "reason"] == "of BACTERIA"
    assert verdicts.loc["macro", "below_since"] == verdicts.loc["BACTERIA", "below_since"]
    assert (verdicts.drop("macro")["n_pairs_needed"] == pairs_needed(0.97, share=1 / 3)).all()
    alone = images.assign(label=images["label"].where(images["label"] == "BACTERIA", "NORMAL"))
    two = Classes(("NORMAL", "BACTERIA"))
    of_two = looks_table(alone, two, {"1": {"BACTERIA": 0.97}})
    of_three = looks[looks["class"] == "BACTERIA"]
    assert of_three["evidence"].to_numpy() == pytest.approx(of_two["evidence"].to_numpy() / 3)


def test_classes_are_as_promised_together_if_each_is() -> None:
    kept = dict.fromkeys(THREE, 5.0)
    few = judged_three(three_classes(90, kept), dict.fromkeys(THREE, 0.97))[1].loc["macro"]
    assert (few["verdict"], few["reason"]) == ("too few labels to tell", "of NORMAL, BACTERIA, VIRUS")
    _, verdicts = judged_three(three_classes(510, kept), dict.fromkeys(THREE, 0.97))
    assert (verdicts["verdict"] == "as promised").all()
    aucs = verdicts["roc_auc"].drop("macro")
    assert verdicts.loc["macro", "roc_auc"] == pytest.approx(aucs.mean())
    _, partly = judged_three(three_classes(510, kept), {"NORMAL": 0.97, "BACTERIA": 0.97, "VIRUS": "nothing"})
    assert partly.loc["macro", ["verdict", "reason"]].tolist() == ["nothing promised", "of VIRUS"]


def test_each_of_more_classes_has_the_bound_of_its_own_interval() -> None:
    rows = [{"class": name, "metric": "roc_auc", "ci_low": low} for name, low in (("NORMAL", 0.8), ("BACTERIA", 1.0))]
    facts = {"metrics": [{"metric": "macro_roc_auc", "ci_low": 70.0}], "metrics_by_class": rows}
    found = [promise_of(facts, THREE, name) for name in THREE]
    assert found == [0.8, 0.99, "its package has no interval of the ROC-AUC"]
