import dataclasses

import numpy as np
import pandas as pd
import pytest

from cxr.classes import Classes, Findings
from cxr.evaluation.findings import FindingsOutOfFold
from cxr.evaluation.out_of_fold import OutOfFold
from cxr.evaluation.referral import (
    LEVELS,
    NO_IMAGE,
    TOO_FEW,
    fits_out_of_fold,
    outside_referral_table,
    referral_rates,
    referral_table,
)
from cxr.metrics.calibration import fit_calibration
from cxr.metrics.conformal import class_threshold
from tests.support.predictions import CLASSES, manifest_of, simulate

THREE = Classes(("NORMAL", "bacteria", "virus"))


def changed(images: OutOfFold, **columns: object) -> OutOfFold:
    return OutOfFold(images.predictions.assign(**columns), images.classes)


def slow_fits(images: OutOfFold, level: float) -> np.ndarray:
    """Image by image: calibration and thresholds from the other folds."""
    fits = np.zeros(images.logits.shape, dtype=bool)
    for k in range(len(fits)):
        others = images.fold != images.fold[k]
        calibration = fit_calibration(images.logits[others], images.target[others])
        for column in range(fits.shape[1]):
            rows = others & (images.target == column)
            probability = calibration.probability(images.logits[rows])[:, column]
            threshold = class_threshold(probability, images.group[rows], level)
            fits[k, column] = calibration.probability(images.logits[k])[column] >= threshold
    return fits


@pytest.mark.parametrize("classes", [CLASSES, THREE])
def test_each_image_is_judged_by_thresholds_of_the_other_folds(classes: Classes) -> None:
    images = simulate(60, n_folds=3, classes=classes)
    np.testing.assert_array_equal(fits_out_of_fold(images, 0.2), slow_fits(images, 0.2))


def test_the_labels_of_a_fold_do_not_change_which_classes_fit_its_images() -> None:
    images = simulate(300, n_folds=3)
    own = images.fold == 1
    label = images.predictions["label"].where(
        ~own, images.predictions["label"].map(dict(zip(CLASSES, CLASSES[::-1], strict=True)))
    )
    before, after = fits_out_of_fold(images, 0.1), fits_out_of_fold(changed(images, label=label), 0.1)
    assert before is not None
    assert after is not None
    np.testing.assert_array_equal(before[own], after[own])
    assert (before[~own] != after[~own]).any()


@pytest.mark.parametrize("classes", [CLASSES, THREE])
def test_every_share_is_that_of_a_slow_count(classes: Classes) -> None:
    images = simulate(400, classes=classes)
    manifest = manifest_of(images)
    table = referral_table(images, manifest)
    assert table["refer"].unique().tolist() == list(LEVELS)
    fits = fits_out_of_fold(images, 0.1)
    assert fits is not None
    of_test = (manifest["split"] == "test").to_numpy()
    for level, inside in ((None, np.full(400, fill_value=True)), ("test", of_test)):
        rows = table[(table["refer"] == 0.1) & (table["level"].isna() if level is None else table["level"] == level)]
        values = {(row.label if isinstance(row.label, str) else None, row.metric): row for row in rows.itertuples()}
        for label in (None, *classes):
            own = [k for k in range(400) if inside[k] and label in (None, classes[images.target[k]])]
            sets = [[name for name, fitting in zip(classes, fits[k], strict=True) if fitting] for k in own]
            right = [classes[images.target[k]] in fitting for k, fitting in zip(own, sets, strict=True)]
            answered = [len(fitting) == 1 for fitting in sets]
            expected = {
                "referred": 1 - np.mean(answered),
                "fits_none": np.mean([not fitting for fitting in sets]),
                "error": 1 - np.mean([good for good, is_answer in zip(right, answered, strict=True) if is_answer]),
            }
            if label is not None:
                by_patient = pd.Series(right).groupby(images.group[own]).mean()
                expected |= {"coverage": np.mean(right), "coverage_of_patients": by_patient.mean()}
            for metric, value in expected.items():
                assert values[label, metric].value == pytest.approx(value), (level, label, metric)
            assert values[label, "referred"].n == len(own)
            assert values[label, "error"].n == sum(answered)


def test_of_each_class_about_the_stated_share_of_patients_is_excluded_and_less_is_answered_rightly() -> None:
    table = referral_table(simulate(3000), pd.DataFrame({"path": [f"{k}.jpeg" for k in range(3000)], "split": None}))
    whole = table[table["subgroup"].isna()]
    for refer in LEVELS:
        of_patients = whole.query("refer == @refer and metric == 'coverage_of_patients'")
        assert of_patients["value"].tolist() == pytest.approx([1 - refer] * 2, abs=0.02)
    answered = whole[whole["label"].isna()].set_index(["metric", "refer"])["value"]
    assert answered["referred"][0.05] > answered["referred"][0.2], "less is excluded, so more fits both classes"
    assert answered["error"][0.05] < answered["error"][0.2]


def test_intervals_hold_the_values_and_are_over_patients() -> None:
    images = simulate(400)
    rows = pd.DataFrame(referral_rates(images, 0.1))
    assert (rows["ci_low"] <= rows["value"]).all()
    assert (rows["value"] <= rows["ci_high"]).all()
    drawn = images.replicates.drawn[:, images.group]
    fits = fits_out_of_fold(images, 0.1)
    assert fits is not None
    referred = drawn @ (fits.sum(axis=1) != 1) / drawn.sum(axis=1)
    row = rows[rows["label"].isna() & (rows["metric"] == "referred")].iloc[0]
    assert row[["ci_low", "ci_high"]].tolist() == pytest.approx(np.percentile(referred, [2.5, 97.5]).tolist())


def test_too_few_patients_and_images_that_are_not_there_are_undefined_with_a_reason() -> None:
    few = simulate(20, n_folds=2)
    table = referral_table(few, manifest_of(few))
    assert set(table.loc[table["refer"] == 0.05, "reason"]) == {TOO_FEW}
    assert table.loc[table["refer"] == 0.05, "value"].isna().all()
    images = simulate(400)
    positive = images.predictions["label"] == "PNEUMONIA"
    outside = images.predictions[positive].assign(
        **dict(zip(CLASSES.probability_columns, images.calibrated[positive].T, strict=True))
    )
    rows = outside_referral_table(outside, images).query("label == 'NORMAL'")
    assert set(rows["reason"]) == {NO_IMAGE}
    assert (rows["n"] == 0).all()


def test_a_test_set_is_judged_by_the_thresholds_that_a_package_has() -> None:
    inside, outside = simulate(500), simulate(200, seed=1)
    probability = inside.calibration.probability(inside.logits)
    predictions = outside.predictions.assign(
        **dict(zip(CLASSES.probability_columns, outside.probability.T, strict=True))
    )
    table = outside_referral_table(predictions, inside)
    assert table["subgroup"].isna().all()
    coverage = table.query("refer == 0.1 and metric == 'coverage'").set_index("label")["value"]
    for k, name in enumerate(CLASSES):
        own = inside.target == k
        threshold = class_threshold(probability[own, k], inside.group[own], 0.1)
        assert coverage[name] == pytest.approx((outside.probability[outside.target == k, k] >= threshold).mean())


def test_a_finding_is_referred_as_two_classes_where_it_is_known() -> None:
    findings = Findings(["effusion", "mass"])
    inside = simulate(400)
    logit = inside.logits[:, 1] - inside.logits[:, 0]
    known = (inside.predictions["label"] == "PNEUMONIA").astype("boolean")
    known[::5] = pd.NA
    columns = {f"finding_{name}": known for name in findings} | {f"logit_{name}": logit for name in findings}
    columns |= {f"probability_{name}": 1 / (1 + np.exp(-logit)) for name in findings}
    predictions = inside.predictions[["image_id", "path", "group_id", "fold", "subtype"]].assign(label="", **columns)
    table = outside_referral_table(predictions, FindingsOutOfFold(predictions, findings))
    assert set(table["class"]) == set(findings)
    assert set(table["label"].dropna()) == {f"{word}{name}" for name in findings for word in ("", "no ")}
    counted = table.query("refer == 0.1 and metric == 'coverage'").groupby("class")["n"].sum()
    assert counted.tolist() == [320, 320]


def test_without_folds_the_parts_take_their_place() -> None:
    images = simulate(300)
    parts = dataclasses.replace(images, predictions=images.predictions.assign(part=images.fold, fold=pd.NA))
    pd.testing.assert_frame_equal(
        referral_table(parts, manifest_of(images)), referral_table(images, manifest_of(images)), check_exact=True
    )
