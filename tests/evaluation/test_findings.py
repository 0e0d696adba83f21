import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from cxr.classes import MACRO
from cxr.evaluation import analyses
from cxr.evaluation.findings import (
    NOWHERE_KNOWN,
    FindingsOutOfFold,
    count_present,
    estimates_by_finding,
    for_each_finding,
    out_of_fold_of,
    tables_of,
)
from cxr.evaluation.out_of_fold import OutOfFold
from cxr.evaluation.tables import metrics_table, summary_table
from cxr.metrics.bootstrap import Replicates
from cxr.metrics.classification import COUNTS
from tests.support.findings import FINDINGS, by_scikit_learn, simulate_findings
from tests.support.predictions import CLASSES, simulate

RATES = (
    "accuracy",
    "balanced_accuracy",
    "precision",
    "sensitivity",
    "specificity",
    "f1",
    "roc_auc",
    "average_precision",
)


def test_the_kind_of_outputs_decides_how_predictions_are_seen() -> None:
    assert type(out_of_fold_of(simulate_findings(20).predictions, FINDINGS)) is FindingsOutOfFold
    assert type(out_of_fold_of(simulate(20).predictions, CLASSES)) is OutOfFold


def test_every_value_of_a_finding_is_what_scikit_learn_computes_where_it_is_known() -> None:
    images = simulate_findings().predictions
    metrics = metrics_table(images, FINDINGS)
    for fold in (None, *range(5)):
        part = images if fold is None else images[images["fold"] == fold]
        rows = metrics[(metrics["scope"] == "pooled") if fold is None else (metrics["fold"] == fold)]
        expected = {name: by_scikit_learn(part, name) for name in FINDINGS}
        for name in FINDINGS:
            found = rows[rows["class"] == name].set_index("metric")
            assert found["value"].to_dict() == pytest.approx(expected[name], rel=1e-12)
            assert set(found["n"]) == {part[f"finding_{name}"].notna().sum()}
        macro = rows[rows["class"] == MACRO].set_index("metric")["value"].to_dict()
        assert macro == pytest.approx({m: np.mean([expected[name][m] for name in FINDINGS]) for m in RATES}, rel=1e-12)


def test_the_summary_says_how_many_images_are_known() -> None:
    images = simulate_findings(200).predictions
    metrics = metrics_table(images, FINDINGS)
    summary = summary_table(metrics).merge(count_present(images, FINDINGS), on="class", how="left")
    row = summary[(summary["class"] == "Mass") & (summary["metric"] == "roc_auc")].iloc[0]
    assert row["n_known"] == images["finding_Mass"].notna().sum()
    assert row["n_present"] == images["finding_Mass"].sum()
    pooled = metrics.query("scope == 'pooled' and `class` == 'macro' and metric == 'roc_auc'").iloc[0]
    assert pooled["ci_low"] < pooled["value"] < pooled["ci_high"]


def test_a_finding_is_evaluated_like_two_classes_on_its_known_images() -> None:
    images = simulate_findings()
    part = images.of("Mass")
    known = images.predictions[images.predictions["finding_Mass"].notna()]
    assert part.classes == ("no Mass", "Mass")
    assert len(part.predictions) == len(known)
    np.testing.assert_allclose(part.probability[:, 1], known["probability_Mass"], rtol=1e-12)
    alone = OutOfFold(part.predictions, part.classes)
    pd.testing.assert_frame_equal(analyses.calibration_table(alone), analyses.calibration_table(part))
    by_all, by_itself = (analyses.operating_point_table(images) for images in (part, alone))
    pd.testing.assert_frame_equal(
        by_all.drop(columns=["ci_low", "ci_high"]), by_itself.drop(columns=["ci_low", "ci_high"])
    )
    width, width_alone = ((table["ci_high"] - table["ci_low"]).mean() for table in (by_all, by_itself))
    assert width == pytest.approx(width_alone, rel=0.15)  # other draws of the same patients


def test_each_finding_is_calibrated_like_a_logistic_regression_on_its_logit() -> None:
    images = simulate_findings(3000, slope=2.0)
    calibrated = images.calibration.probability(images.logits)
    for k, name in enumerate(FINDINGS):
        known = images.predictions[f"finding_{name}"].notna().to_numpy()
        truth = images.predictions.loc[known, f"finding_{name}"].to_numpy(bool)
        logit = images.logits[known, k][:, None]
        fitted = LogisticRegression(C=np.inf, tol=1e-8).fit(logit, truth)
        np.testing.assert_allclose(calibrated[known, k], fitted.predict_proba(logit)[:, 1], atol=2e-3)
        thresholds = images.thresholds[name]
        assert thresholds["half"] == 0.5
        assert thresholds["balanced"] == pytest.approx(expit(fitted.intercept_[0]), abs=2e-3)


def test_tables_of_all_findings_hold_those_of_each() -> None:
    images = simulate_findings(300)
    tables = for_each_finding(
        images,
        lambda part: {"points": analyses.operating_point_table(part), "calibration": analyses.calibration_table(part)},
    )
    assert tables["points"].columns[0] == "class"
    for name in FINDINGS:
        of_finding = tables_of(tables, name)
        assert set(of_finding["calibration"]["class"]) == {name}
        expected = analyses.operating_point_table(images.of(name))
        pd.testing.assert_frame_equal(of_finding["points"].drop(columns="class"), expected)


def test_a_finding_known_in_no_image_is_undefined_with_its_reason_and_so_is_the_macro_average() -> None:
    images = simulate_findings(120).predictions
    images["finding_Mass"] = pd.Series(None, images.index, dtype="boolean")
    by_finding = estimates_by_finding(images, FINDINGS, Replicates.of(images["group_id"]))
    value, reason = by_finding["Mass"].values["roc_auc"]
    assert np.isnan(value)
    assert reason == NOWHERE_KNOWN
    assert by_finding[MACRO].values["roc_auc"].reason == f"Mass: {NOWHERE_KNOWN}"
    assert all(by_finding["Mass"].values[count].value == 0 for count in COUNTS)
    assert not np.isnan(by_finding["Effusion"].values["roc_auc"].value)


def test_a_fold_without_a_finding_has_no_auc_of_it() -> None:
    images = simulate_findings(200).predictions
    images.loc[images["fold"] == 2, "finding_Hernia"] = False
    part = FindingsOutOfFold(images, FINDINGS).of("Hernia")
    metrics = metrics_table(images, FINDINGS)
    auc = analyses.auc_table(part, metrics).set_index(["scope", "interval"])
    assert np.isnan(auc.loc[("mean", "DeLong"), "value"])
    assert auc.loc[("mean", "DeLong"), "reason"] == "fold 2: no image of the class"
    assert not np.isnan(auc.loc[("pooled", "DeLong"), "ci_low"])
    assert auc.loc[("pooled", "bootstrap"), "value"] == pytest.approx(
        roc_auc_score(part.target, part.probability[:, 1])
    )
    of_hernia = metrics[(metrics["class"] == "Hernia") & (metrics["metric"] == "roc_auc")].set_index("scope")
    bounds = ["ci_low", "ci_high"]
    assert auc.loc[("pooled", "bootstrap"), bounds].tolist() == of_hernia.loc["pooled", bounds].tolist()
