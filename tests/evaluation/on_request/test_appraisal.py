from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from cxr.classes import Classes
from cxr.dataset.predictions import Predictions, read_predictions
from cxr.errors import RunError
from cxr.evaluation.analyses import calibration_table, operating_point_table
from cxr.evaluation.on_request.appraisal import appraise, being_made
from cxr.evaluation.out_of_fold import OutOfFold
from cxr.evaluation.tables import TABLES, confusion_table, metrics_table, summary_of, tables_of_classes
from cxr.prediction_columns import PredictionColumns
from cxr.storage import files, verified
from cxr.storage.appraisal_folder import AppraisalFolder
from tests.support.findings import FINDINGS, by_scikit_learn, simulate_findings
from tests.support.predictions import CLASSES, metrics_by_scikit_learn, simulate
from tests.support.shared import NewFolder

CROSS_FITTED = ("calibration", "operating_points", "predictive_values")


def exported(place: Path, *, leave_out: tuple[str, ...] = (), changed: dict[str, object] | None = None) -> Predictions:
    """Simulated out-of-fold predictions of patients with several images, through a file of probabilities."""
    images = simulate(300)
    columns = dict(zip(CLASSES.probability_columns, images.probability.T, strict=True))
    table = images.predictions[["image_id", "path", "group_id", "fold", "label"]].assign(**columns, **(changed or {}))
    table.drop(columns=list(leave_out)).to_csv(place / "predictions.csv", index=False)
    return read_predictions(place / "predictions.csv", PredictionColumns(), lambda: b"k" * 32)


def test_metrics_and_calibration_are_those_of_scikit_learn(tmp_path: Path) -> None:
    predictions = exported(tmp_path, leave_out=("fold",))
    _, tables = appraise(predictions)
    truth = (predictions.table["label"] == "PNEUMONIA").to_numpy()
    probability = predictions.table["probability_PNEUMONIA"].to_numpy()
    values = tables["metrics"].set_index("metric")["value"].to_dict()
    assert values == pytest.approx(metrics_by_scikit_learn(truth, probability))
    before = tables["calibration"].query("stage == 'before'").set_index("measure")["value"]
    assert before["log_loss"] == pytest.approx(sk.log_loss(truth, probability))
    assert before["brier"] == pytest.approx(2 * sk.brier_score_loss(truth, probability))


def test_without_folds_there_are_pooled_figures_alone(tmp_path: Path) -> None:
    images, tables = appraise(exported(tmp_path, leave_out=("fold",)))
    assert not images.has_folds
    assert set(tables["metrics"]["scope"]) == {"pooled"}
    assert set(tables["auc"]["scope"]) == {"pooled"}
    assert tables["summary"][["mean", "sd", "mean_ci_low", "mean_ci_high"]].isna().all(axis=None)
    assert tables["summary"]["pooled"].notna().all()
    assert tables["label_suspects"]["fold"].isna().all()


def test_without_folds_calibration_and_thresholds_are_fitted_on_the_other_parts(tmp_path: Path) -> None:
    predictions = exported(tmp_path, leave_out=("fold",))
    _, tables = appraise(predictions)
    with_folds = predictions.table.assign(fold=predictions.table["part"])
    _, of_folds = appraise(Predictions(with_folds, predictions.outputs, predictions.facts))
    for name in CROSS_FITTED:
        pd.testing.assert_frame_equal(tables[name], of_folds[name])


def test_with_folds_the_tables_are_those_that_a_run_computes(tmp_path: Path) -> None:
    images, tables = appraise(exported(tmp_path))
    source = simulate(300)
    columns = dict(zip(CLASSES.probability_columns, source.probability.T, strict=True))
    own = source.predictions.assign(**columns).sort_values("path", ignore_index=True)
    metrics = metrics_table(own, CLASSES)
    known = own.assign(split=None)
    computed = tables_of_classes(type(source)(own, CLASSES), metrics, known)
    expected = {"metrics": metrics, "summary": summary_of(own, CLASSES, metrics)} | computed
    assert images.has_folds
    for name in ("metrics", "summary", "auc", "confusion", "calibration", "operating_points", "predictive_values"):
        pd.testing.assert_frame_equal(tables[name], expected[name], rtol=1e-6, atol=1e-9)


def test_intervals_are_over_patients_and_wider_than_over_images(tmp_path: Path) -> None:
    images = simulate(300)
    twice = pd.concat([images.predictions, images.predictions.assign(path="copy-" + images.predictions["path"])])
    probability = np.tile(images.probability[:, 1], 2)
    table = twice[["path", "label"]].assign(probability_PNEUMONIA=probability, patient=np.tile(np.arange(300), 2))
    widths = []
    for columns in (["path", "label", "probability_PNEUMONIA", "patient"], ["path", "label", "probability_PNEUMONIA"]):
        table[columns].to_csv(tmp_path / "predictions.csv", index=False)
        read = read_predictions(tmp_path / "predictions.csv", PredictionColumns(), lambda: b"k" * 32)
        accuracy = appraise(read)[1]["metrics"].query("metric == 'accuracy'").iloc[0]
        widths.append(accuracy["ci_high"] - accuracy["ci_low"])
    assert widths[0] / widths[1] == pytest.approx(np.sqrt(2), rel=0.1)


def test_subgroups_come_from_columns_and_none_is_an_empty_table(tmp_path: Path) -> None:
    sex = np.where(np.arange(300) % 2, "F", "M")
    _, tables = appraise(exported(tmp_path, leave_out=("group_id",), changed={"subgroup_sex": sex}))
    women = tables["subgroups"].query("level == 'F' and metric == 'sensitivity'").iloc[0]
    images = simulate(300)
    rows = (sex == "F") & (images.target == 1)
    assert (women["subgroup"], women["n_positive"]) == ("sex", rows.sum())
    assert women["value"] == pytest.approx((images.probability[rows, 1] >= 0.5).mean())
    _, tables = appraise(exported(tmp_path, leave_out=("group_id",)))
    assert tables["subgroups"].empty


def test_an_appraisal_is_whole_or_not_there_and_never_replaces_another_one(tmp_path: Path) -> None:
    predictions = exported(tmp_path)
    folder = AppraisalFolder.named(tmp_path / "appraisals", "first")
    with pytest.raises(KeyboardInterrupt), being_made(folder, predictions, {}):
        raise KeyboardInterrupt
    assert not folder.path.exists()
    for _ in range(2):
        with being_made(folder, predictions, {}):
            pass
    pd.testing.assert_frame_equal(verified.read_table(folder.predictions), predictions.table)
    other = exported(tmp_path, leave_out=("fold",))
    with (
        pytest.raises(
            RunError, match=r"'first' is of 'predictions.csv' and differs in its source: give another --name"
        ),
        being_made(folder, other, {}),
    ):
        pass
    assert [path.name for path in folder.path.parent.iterdir() if not path.name.startswith(".locks")] == ["first"]


def of_findings(place: Path, **options: object) -> Predictions:
    """Three findings, some of them unknown, through a file of probabilities."""
    images = findings_drawn()
    images.drop(columns=["label", *FINDINGS.logit_columns]).to_csv(place / "findings.csv", index=False)
    return read_predictions(place / "findings.csv", PredictionColumns(**options), lambda: b"k" * 32)


def findings_drawn() -> pd.DataFrame:
    images = simulate_findings(200).predictions
    return images[images[FINDINGS.columns].notna().any(axis=1)].sort_values("path", ignore_index=True)


@pytest.fixture(scope="module")
def tables(new_folder: NewFolder) -> dict[str, pd.DataFrame]:
    """The tables of the three findings, with folds."""
    return appraise(of_findings(new_folder("findings"), blank="mask"))[1]


def test_each_finding_has_the_values_of_scikit_learn_where_it_is_known(tables: dict[str, pd.DataFrame]) -> None:
    images = findings_drawn()
    pooled = tables["metrics"].query("scope == 'pooled'").set_index(["class", "metric"])["value"]
    for name in FINDINGS:
        assert pooled[name].to_dict() == pytest.approx(by_scikit_learn(images, name))
        known = images[images[f"finding_{name}"].notna()]
        truth, probability = known[f"finding_{name}"].astype(bool), known[f"probability_{name}"]
        errors = tables["calibration"].query("`class` == @name and stage == 'before'").set_index("measure")["value"]
        assert errors["log_loss"] == pytest.approx(sk.log_loss(truth, probability))
        assert errors["brier"] == pytest.approx(2 * sk.brier_score_loss(truth, probability))
    mean = np.mean([by_scikit_learn(images, name)["roc_auc"] for name in FINDINGS])
    assert pooled["macro", "roc_auc"] == pytest.approx(mean)


def test_findings_have_every_table_of_a_run_and_its_metrics(tables: dict[str, pd.DataFrame]) -> None:
    assert {*tables, "drift_reference"} == set(TABLES)
    metrics = metrics_table(findings_drawn(), FINDINGS)
    pd.testing.assert_frame_equal(tables["metrics"], metrics, rtol=1e-6, atol=1e-9)
    for name in set(tables) - {"metrics", "summary", "subgroups"}:
        assert set(tables[name]["class"]) == set(FINDINGS)


def test_a_finding_of_several_is_appraised_as_when_it_is_the_only_one(
    tables: dict[str, pd.DataFrame], tmp_path: Path
) -> None:
    images = findings_drawn()
    label = images["finding_Mass"].map({True: "Mass", False: "no Mass"})
    alone = images[["path", "group_id", "fold", "probability_Mass"]].assign(label=label).dropna()
    alone.to_csv(tmp_path / "mass.csv", index=False)
    read = read_predictions(tmp_path / "mass.csv", PredictionColumns(), lambda: b"k" * 32)
    single = OutOfFold(read.table, Classes(("no Mass", "Mass")))
    for name, own in (
        ("operating_points", operating_point_table(single)),
        ("calibration", calibration_table(single)),
        ("confusion", confusion_table(single.predictions, single.classes).rename(columns={"n": "value"})),
    ):
        of_mass = tables[name].query("`class` == 'Mass'").rename(columns={"n": "value"})
        np.testing.assert_allclose(of_mass["value"], own["value"], rtol=1e-4, atol=1e-6)


def test_another_meaning_of_blank_findings_is_another_appraisal(tmp_path: Path) -> None:
    predictions = of_findings(tmp_path, blank="mask")
    folder = AppraisalFolder.named(tmp_path / "appraisals", "findings")
    with being_made(folder, predictions, {}):
        pass
    assert verified.read_record(folder.record)["format"] == files.FINDINGS_FORMAT
    other = of_findings(tmp_path, blank="negative")
    with pytest.raises(RunError, match="differs in its findings: give another --name"), being_made(folder, other, {}):
        pass
