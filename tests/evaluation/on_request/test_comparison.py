from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest
from sklearn import metrics as sk

from cxr.classes import Classes, Findings
from cxr.cli.app import app
from cxr.dataset.findings import describe_findings
from cxr.dataset.predictions import read_predictions
from cxr.errors import ConfigError, RunError
from cxr.evaluation.on_request.appraisal import being_made
from cxr.evaluation.on_request.comparison import compare, permute_runs
from cxr.evaluation.tables import metrics_table
from cxr.prediction_columns import PredictionColumns
from cxr.storage import files, verified
from cxr.storage.appraisal_folder import AppraisalFolder
from cxr.storage.run_folder import RunFolder
from tests.support.findings import FINDINGS, simulate_findings
from tests.support.predictions import CLASSES, simulate

THREE = Classes("ABC")


def write_run(
    place: Path, name: str, predictions: pd.DataFrame, classes: Classes = CLASSES, config: dict[str, str] | None = None
) -> RunFolder:
    folder = RunFolder(place / name)
    probability = np.exp(predictions[[f"logit_{c}" for c in classes]].to_numpy())
    probability /= probability.sum(axis=1, keepdims=True)
    verified.write_json(folder.config, {"format": files.FORMAT, "classes": classes, "config": config or {}})
    columns = {f"probability_{c}": probability[:, k] for k, c in enumerate(classes)}
    verified.write_table(folder.predictions, predictions.assign(**columns))
    return folder


def noisy(predictions: pd.DataFrame, sd: float) -> pd.DataFrame:
    noise = np.random.default_rng(1).normal(0, sd, len(predictions))
    return predictions.assign(logit_PNEUMONIA=predictions["logit_PNEUMONIA"] + noise)


def test_runs_are_compared_on_the_images_that_both_have_predicted(tmp_path: Path) -> None:
    images = simulate(400).predictions
    a = write_run(tmp_path, "a", images.iloc[:350])
    b = write_run(tmp_path, "b", noisy(images, 2).iloc[50:].sample(frac=1, random_state=0))
    compared = compare([a, b])
    assert compared.n_images == 300
    assert compared.n_others == {"a": 50, "b": 50}
    shared = [
        files.read_table(run.predictions).set_index("image_id").loc[[f"id{k}" for k in range(50, 350)]]
        for run in (a, b)
    ]
    truth = shared[0]["label"] == "PNEUMONIA"
    auc = [sk.roc_auc_score(truth, images["probability_PNEUMONIA"]) for images in shared]
    accuracy = [sk.accuracy_score(truth, images["probability_PNEUMONIA"] >= 0.5) for images in shared]
    table = compared.metrics.set_index(["run", "metric"])
    for name, values in (("roc_auc", auc), ("accuracy", accuracy)):
        assert table.loc[("a", name), "value"] == pytest.approx(values[0])
        row = table.loc[("b", name)]
        assert row["value"] == pytest.approx(values[1])
        assert row["difference"] == pytest.approx(values[1] - values[0])
        assert row["ci_low"] < row["difference"] < row["ci_high"] < 0
        assert row["p_value"] < 0.05
    predicted = pd.DataFrame({k: f["probability_PNEUMONIA"] >= 0.5 for k, f in enumerate(shared)})
    assert set(compared.changed["path"]) == set(shared[0]["path"][predicted[0] != predicted[1]])
    assert set(compared.changed["right"]) == {"a", "b"}
    assert (compared.changed["predicted_a"] != compared.changed["predicted_b"]).all()


def test_a_run_and_its_copy_do_not_differ(tmp_path: Path) -> None:
    images = simulate(200).predictions
    compared = compare([write_run(tmp_path, "a", images), write_run(tmp_path, "b", images)])
    rows = compared.metrics.query("run == 'b'")
    assert (rows[["difference", "ci_low", "ci_high"]] == 0).all(axis=None)
    assert (rows["p_value"].dropna() == 1).all()
    assert compared.changed.empty


def test_the_paired_interval_is_narrower_than_two_apart(tmp_path: Path) -> None:
    images = simulate(400).predictions
    compared = compare([write_run(tmp_path, "a", images), write_run(tmp_path, "b", noisy(images, 0.2))])
    row = compared.metrics.set_index(["run", "metric"]).loc[("b", "roc_auc")]
    alone = metrics_table(files.read_table(tmp_path / "a" / "metrics" / "predictions.parquet"), CLASSES)
    pooled = alone.query("scope == 'pooled' and metric == 'roc_auc'").iloc[0]
    assert row["ci_high"] - row["ci_low"] < 0.5 * (pooled["ci_high"] - pooled["ci_low"])


def test_runs_that_leave_out_different_things_are_compared_and_said_to_be_unlike(tmp_path: Path) -> None:
    images = simulate(100).predictions
    a, b = (write_run(tmp_path, name, images) for name in ("a", "b"))
    c, d = (write_run(tmp_path, name, images, config={"leave_out": "cluster"}) for name in ("c", "d"))
    assert [compare(pair).is_unlike for pair in ([a, b], [c, d], [a, c])] == [False, False, True]


def test_accuracies_of_patients_with_one_image_are_tested_as_by_mcnemar() -> None:
    before = np.array([True] * 6 + [False] * 1 + [True] * 20)
    after = np.array([False] * 6 + [True] * 1 + [True] * 20)
    alone = np.arange(27)
    assert permute_runs(before, after, alone) == pytest.approx(2 * (1 + 7) / 2**7)  # of 7 that changed 1 or none won
    assert permute_runs(before, before, alone) == 1
    generator = np.random.default_rng(1)
    before, after = generator.random((2, 2000)) < [[0.90], [0.885]]
    lost, won = (before & ~after).sum(), (after & ~before).sum()
    expected = binomtest(won, lost + won).pvalue
    assert 0.02 < expected < 0.2
    assert permute_runs(before, after, np.arange(2000)) == pytest.approx(expected, abs=0.01)


def test_the_images_of_a_patient_change_together_and_count_once() -> None:
    """Of four patients with ten images each, the second run loses all images of one: that may be chance."""
    right = np.full(40, fill_value=True)
    lost = np.arange(40) >= 10
    assert permute_runs(right, lost, np.arange(40) // 10) == 1
    assert permute_runs(right, lost, np.arange(40)) < 0.01
    three = np.arange(40) >= 30
    assert permute_runs(right, three, np.arange(40) // 10) == pytest.approx(2 / 2**3)


def test_three_runs_of_three_classes_are_compared_with_the_first(tmp_path: Path) -> None:
    images = simulate(300, classes=THREE).predictions
    runs = [write_run(tmp_path, name, images, THREE) for name in ("a", "b", "c")]
    table = compare(runs).metrics
    assert table.groupby("run")["difference"].count().to_dict() == {"a": 0, "b": len(table) // 3, "c": len(table) // 3}
    assert set(table["class"].dropna()) == {*THREE, "macro"}


def test_runs_that_cannot_be_compared_are_refused_in_a_sentence(tmp_path: Path) -> None:
    images = simulate(100).predictions
    a = write_run(tmp_path, "a", images)
    with pytest.raises(RunError, match="two or more different runs"):
        compare([a, a])
    other = write_run(tmp_path, "other", simulate(100, classes=THREE).predictions, THREE)
    with pytest.raises(RunError, match="run 'other' has classes A, B, C"):
        compare([a, other])
    apart = write_run(tmp_path, "apart", images.assign(image_id="x" + images["image_id"]))
    with pytest.raises(RunError, match="no image in common"):
        compare([a, apart])
    swapped = images.assign(label=images["label"].map({"NORMAL": "PNEUMONIA", "PNEUMONIA": "NORMAL"}))
    with pytest.raises(RunError, match="100 images different labels"):
        compare([a, write_run(tmp_path, "swapped", swapped)])
    bare = RunFolder(tmp_path / "bare")
    verified.write_json(bare.config, {"format": files.FORMAT, "classes": CLASSES})
    with pytest.raises(RunError, match="cxr evaluate bare"):
        compare([a, bare])


def test_the_command_prints_differences_and_writes_both_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    images = simulate(200).predictions
    for name, predictions in (("a", images), ("b", noisy(images, 2))):
        write_run(tmp_path / "experiments", name, predictions)
    app(["compare", "a", "b"])
    printed = capsys.readouterr().out
    assert "200 images in common" in printed
    assert "(DeLong)" in printed
    assert pd.read_parquet("comparisons/a_b/comparison.parquet")["run"].unique().tolist() == ["a", "b"]
    assert len(pd.read_parquet("comparisons/a_b/changed_images.parquet"))


def write_appraisal(place: Path, name: str, predictions: pd.DataFrame, *, columns: tuple[str, ...]) -> AppraisalFolder:
    """Appraise predictions of which only some columns are known, beside the probability of the positive class."""
    probability = np.exp(predictions[CLASSES.logit_columns].to_numpy())
    table = predictions[list(columns)].assign(probability_PNEUMONIA=probability[:, 1] / probability.sum(axis=1))
    table.to_csv(place / f"{name}.csv", index=False)
    read = read_predictions(place / f"{name}.csv", PredictionColumns(), lambda: b"k" * 32)
    folder = AppraisalFolder.named(place / "appraisals", name)
    with being_made(folder, read, {}):
        return folder


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("columns", [("image_id", "path", "label"), ("path", "label"), ("path", "label", "group_id")])
def test_an_appraisal_beside_a_run_is_compared_as_another_run_is(
    tmp_path: Path, columns: tuple[str, ...], order: int
) -> None:
    images = simulate(300).predictions
    run, other = write_run(tmp_path, "run", images), write_run(tmp_path, "other", noisy(images, 2).iloc[50:])
    paths = "elsewhere/" + images["path"].str.replace(".jpeg", ".png")
    shorter = noisy(images, 2).assign(path=paths).iloc[50:]
    appraisal = write_appraisal(tmp_path, "theirs", shorter, columns=columns)
    runs, with_appraisal = compare([run, other][::order]), compare([run, appraisal][::order])
    assert (with_appraisal.n_images, with_appraisal.n_others) == (250, {"run": 50, "theirs": 0})
    renamed = with_appraisal.metrics.replace({"run": {"theirs": "other"}})
    pd.testing.assert_frame_equal(renamed, runs.metrics, rtol=1e-9, atol=1e-12)
    assert len(with_appraisal.changed) == len(runs.changed)
    assert not with_appraisal.is_unlike


def test_appraised_findings_beside_a_run_are_compared_as_those_of_another_run(tmp_path: Path) -> None:
    images = described(simulate_findings(300).predictions)
    drawn = np.random.default_rng(1).random(len(images))
    worse = images.assign(**{name: (images[name] + drawn) / 2 for name in FINDINGS.probability_columns})
    runs = [write_run_of_findings(tmp_path, name, table) for name, table in (("run", images), ("theirs", worse))]
    turned = [*FINDINGS[::-1]]
    worse[["image_id", "path", *Findings(turned).columns, *FINDINGS.probability_columns]].to_csv(
        tmp_path / "theirs.csv", index=False
    )
    read = read_predictions(tmp_path / "theirs.csv", PredictionColumns(blank="mask"), lambda: b"k" * 32)
    assert read.outputs == (*turned,)
    folder = AppraisalFolder.named(tmp_path / "appraisals", "theirs")
    with being_made(folder, read, {}):
        pass
    expected, found = compare(runs), compare([runs[0], folder])
    pd.testing.assert_frame_equal(found.metrics, expected.metrics, rtol=1e-9, atol=1e-12)
    assert set(found.metrics["class"]) == {*FINDINGS, "macro"}
    assert found.changed[["path", "class", "right"]].equals(expected.changed[["path", "class", "right"]])
    other = write_run_of_findings(tmp_path, "fewer", images, Findings(FINDINGS[:2]))
    with pytest.raises(RunError, match="appraisal 'theirs' has findings Hernia, Mass, Effusion, run 'fewer' has find"):
        compare([other, folder])


def described(images: pd.DataFrame) -> pd.DataFrame:
    """Images in which a finding is known, with their label as runs write it."""
    known = images[images[FINDINGS.columns].notna().any(axis=1)].reset_index(drop=True)
    return known.assign(label=describe_findings(known[FINDINGS.columns]))


def write_run_of_findings(
    place: Path, name: str, predictions: pd.DataFrame, findings: Findings = FINDINGS
) -> RunFolder:
    folder = RunFolder(place / name)
    record = {"format": files.FINDINGS_FORMAT, "classes": findings, "config": {"task": "multi"}}
    verified.write_json(folder.config, record)
    verified.write_table(folder.predictions, predictions)
    return folder


def test_appraisals_are_compared_with_each_other_by_path(tmp_path: Path) -> None:
    images = simulate(100).predictions
    first = write_appraisal(tmp_path, "first", images, columns=("path", "label"))
    second = write_appraisal(tmp_path, "second", images.iloc[10:], columns=("image_id", "path", "label"))
    compared = compare([first, second])
    assert compared.n_images == 90
    assert compared.changed.empty
    assert (compared.metrics["difference"].dropna() == 0).all()


def test_an_appraisal_of_other_classes_or_labels_is_not_compared(tmp_path: Path) -> None:
    images = simulate(100).predictions
    run = write_run(tmp_path, "run", images)
    turned = images.assign(label=images["label"].map({"NORMAL": "PNEUMONIA", "PNEUMONIA": "NORMAL"}))
    other = write_appraisal(tmp_path, "turned", turned, columns=("path", "label"))
    with pytest.raises(RunError, match="give 100 images different labels"):
        compare([run, other])
    odd = write_appraisal(
        tmp_path, "odd", images.assign(label=images["label"].replace("NORMAL", "well")), columns=("path", "label")
    )
    with pytest.raises(
        RunError, match="appraisal 'odd' has classes well, PNEUMONIA, run 'run' has classes NORMAL, PNEU"
    ):
        compare([run, odd])


def test_a_name_that_a_run_and_an_appraisal_have_is_asked_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    images = simulate(60).predictions
    for name in ("both", "other"):
        write_run(tmp_path / "experiments", name, images)
    write_appraisal(tmp_path, "both", images, columns=("path", "label"))
    with pytest.raises(ConfigError, match="'both' is a run and an appraisal: give the path of its folder"):
        app(["compare", "other", "both"])
    app(["compare", "other", "appraisals/both"])
    assert (tmp_path / "comparisons" / "other_both" / "comparison.parquet").exists()
