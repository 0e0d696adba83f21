import numpy as np
import pytest
from sklearn import metrics as sk

from cxr.classes import Classes
from cxr.evaluation import analyses
from cxr.evaluation.out_of_fold import OutOfFold
from cxr.evaluation.subgroups import label_suspects, most_confident_errors, subgroup_table
from cxr.metrics.calibration import fit_calibration, fit_thresholds
from tests.support.predictions import CLASSES, manifest_of, simulate


def test_calibration_measures_show_which_model_is_overconfident() -> None:
    tables = {slope: analyses.calibration_table(simulate(4000, slope=slope)) for slope in (1.0, 3.0)}
    values = {k: t.set_index(["stage", "measure"])["value"] for k, t in tables.items()}
    assert values[1.0]["before", "slope"] == pytest.approx(1, abs=0.1)
    assert values[3.0]["before", "slope"] == pytest.approx(1 / 3, abs=0.05)
    assert values[3.0]["after", "slope"] == pytest.approx(1, abs=0.1)
    assert values[1.0]["before", "ece"] < 0.03 < values[3.0]["before", "ece"]
    assert values[3.0]["after", "log_loss"] < values[3.0]["before", "log_loss"]


def test_thresholds_and_calibration_are_never_chosen_on_the_images_they_are_applied_to() -> None:
    images = simulate()
    points = {point.name: point for point in analyses.operating_points(images)}
    truth = images.target == 1
    calibrated = np.empty(len(truth))
    balanced = {}
    for fold in range(5):
        others = images.fold != fold
        made = fit_calibration(images.logits[others], images.target[others])
        calibrated[~others] = made.probability(images.logits[~others])[:, 1]
        balanced[fold] = made.balanced
    for fold in range(5):
        others = images.fold != fold
        thresholds = fit_thresholds(calibrated[others], truth[others], balanced[fold])
        for name, threshold in thresholds.items():
            np.testing.assert_array_equal(points[name].predicted[~others], calibrated[~others] >= threshold)


def test_the_balanced_point_calls_positive_what_the_networks_favour_before_calibration() -> None:
    images = simulate(slope=3.0)
    (balanced,) = [point for point in analyses.operating_points(images) if point.name == "balanced"]
    np.testing.assert_array_equal(balanced.predicted, images.logits[:, 1] >= images.logits[:, 0])
    assert images.thresholds["balanced"] == images.calibration.balanced


def test_operating_points_have_the_values_that_scikit_learn_computes_from_their_predictions() -> None:
    images = simulate()
    table = analyses.operating_point_table(images).set_index(["operating_point", "metric"])
    truth = images.target == 1
    for point in analyses.operating_points(images):
        by_hand = {
            "sensitivity": sk.recall_score(truth, point.predicted),
            "specificity": sk.recall_score(~truth, ~point.predicted),
            "precision": sk.precision_score(truth, point.predicted),
            "f1": sk.f1_score(truth, point.predicted),
        }
        for metric, value in by_hand.items():
            row = table.loc[(point.name, metric)]
            assert row["value"] == pytest.approx(value)
            assert row["ci_low"] <= value <= row["ci_high"]


def test_a_threshold_that_cannot_be_chosen_leaves_its_point_undefined_with_the_reason() -> None:
    images = OutOfFold(simulate(200, n_folds=2).predictions.query("fold != 1 or label == 'NORMAL'"), CLASSES)
    table = analyses.operating_point_table(images).set_index("operating_point")
    for point in ("youden", "sensitivity_95", "specificity_95"):
        assert table.loc[point, ["value", "ci_low", "ci_high", "threshold"]].isna().all(axis=None)
        assert (table.loc[point, "reason"] == analyses.NO_THRESHOLD).all()
    assert table.loc["half", "value"].notna().all()
    values = analyses.predictive_value_table(images).set_index("operating_point")["value"]
    assert values["youden"].isna().all()
    assert values["half"].notna().all()


def test_predictive_values_by_hand() -> None:
    values = analyses.predictive_values(0.9, 0.8, 0.05)  # of 1000: 45 found, 5 missed, 190 false alarms, 760 cleared
    assert values["ppv"] == pytest.approx(45 / 235)
    assert values["npv"] == pytest.approx(760 / 765)
    images = simulate()
    own = analyses.predictive_value_table(images).query("is_own and operating_point == 'youden'")
    point = next(p for p in analyses.operating_points(images) if p.name == "youden")
    assert own.set_index("metric").loc["ppv", "value"] == pytest.approx((images.target == 1)[point.predicted].mean())


@pytest.mark.parametrize(
    "images",
    [
        pytest.param(simulate(classes=Classes("ABC")), id="three classes"),
        pytest.param(simulate(400, n_folds=20), id="twenty folds"),
        pytest.param(OutOfFold(simulate(60).predictions.assign(group_id="one"), CLASSES), id="one patient"),
        pytest.param(
            OutOfFold(simulate(60).predictions.assign(logit_NORMAL=0.0, logit_PNEUMONIA=0.0), CLASSES), id="ties"
        ),
        pytest.param(
            OutOfFold(simulate(200).predictions.assign(logit_NORMAL=lambda t: 1e4 * t["logit_NORMAL"]), CLASSES),
            id="probabilities of 0 and 1",
        ),
        pytest.param(
            OutOfFold(simulate(200).predictions.query("fold != 1 or label == 'NORMAL'"), CLASSES), id="a class missing"
        ),
    ],
)
def test_hard_tables_are_analysed_without_a_crash_and_nan_has_a_reason(images: OutOfFold) -> None:
    analyses.curve_tables(images)
    analyses.reliability_table(images)
    analyses.calibration_table(images)
    analyses.decision_table(images)
    analyses.score_table(images)
    most_confident_errors(images)
    label_suspects(images)
    analyses.predictive_value_table(images)
    for table in (analyses.operating_point_table(images), subgroup_table(images, manifest_of(images))):
        undefined = table[table["value"].isna()]
        assert undefined["reason"].notna().all()
