"""Several findings per image, from images to scores: bacteria and virus, with some labels hidden."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
import pytest
from scipy.special import expit

from benchmarks.report_numbers import disagreements
from cxr import library
from cxr.classes import Findings
from cxr.cli.app import app
from cxr.config import DataConfig, Execution
from cxr.dataset.examination import examine
from cxr.errors import ConfigError, FormatError, PackageError, TaskError
from cxr.evaluation.on_request.comparison import compare as compare_runs
from cxr.evaluation.on_request.learning_curve import learning_curve
from cxr.evaluation.on_request.stress import stress
from cxr.evaluation.outside.tests import evaluate_external
from cxr.evaluation.tables import evaluate
from cxr.export.build import make_package
from cxr.images.decoding import decode_square
from cxr.images.synthetic import draw_images, draw_inbox
from cxr.report.run.report import write_report
from cxr.serving import challenger, registry
from cxr.serving.package import Package, load_package
from cxr.storage import files, verified
from cxr.storage.model_folder import ModelFolder
from cxr.storage.run_folder import RunFolder
from cxr.training.beginning import begin_run
from cxr.training.run import Run, load_run
from cxr.training.trainer import train_fold
from data_checks.gate import check_data, check_results
from data_checks.tolerances import Tolerances
from flows.cli import app as cli
from tests.support.findings import by_scikit_learn, hide_subtypes
from tests.support.runs import small_config
from tests.support.shared import NewFolder

FINDINGS = Findings(("bacteria", "virus"))
MACRO_METRICS = ("accuracy", "sensitivity", "specificity", "roc_auc", "average_precision")


@pytest.fixture(scope="module")
def run(several: Run, new_folder: NewFolder) -> Run:
    """A copy of the finished run, to write into."""
    copy = new_folder("several") / "experiments" / "several"
    shutil.copytree(several.folder.path, copy)
    return load_run(RunFolder(copy))


@pytest.fixture(scope="module")
def model(several: Run, new_folder: NewFolder) -> ModelFolder:
    """A model made of the finished run, whose version 1 has a graph and is the champion."""
    model = ModelFolder.named(new_folder("models"), "findings")
    registry.promote(model, make_package(several, model, onnx=True).version)
    return model


@pytest.fixture(scope="module")
def package(model: ModelFolder) -> Package:
    return load_package(model.version("1"))


def ended_with(command: list[str]) -> object:
    with pytest.raises(SystemExit) as ended:
        cli(command)
    return ended.value.code


def test_every_number_of_a_finding_is_scikit_learns_on_the_images_where_it_is_known(several: Run) -> None:
    predictions = pd.read_parquet(several.folder.predictions)
    metrics = pd.read_parquet(several.folder.metrics)
    assert predictions["path"].tolist() == several.images()["path"].tolist()
    assert 0 < predictions["finding_bacteria"].isna().sum() < 0.2 * len(predictions)
    np.testing.assert_allclose(
        predictions[FINDINGS.probability_columns], expit(predictions[FINDINGS.logit_columns]), rtol=1e-12
    )
    for fold in (None, 0, 1):
        images = predictions if fold is None else predictions[predictions["fold"] == fold]
        rows = metrics[(metrics["scope"] == "pooled") if fold is None else (metrics["fold"] == fold)]
        expected = {name: by_scikit_learn(images, name) for name in FINDINGS}
        for name in FINDINGS:
            found = rows[rows["class"] == name].set_index("metric")
            assert found["value"].to_dict() == pytest.approx(expected[name], rel=1e-12, nan_ok=True)
            assert set(found["n"]) == {images[f"finding_{name}"].notna().sum()}
        macro = rows[rows["class"] == "macro"].set_index("metric")["value"]
        for metric in MACRO_METRICS:
            assert macro[metric] == pytest.approx(np.mean([expected[name][metric] for name in FINDINGS]), rel=1e-12)


def test_no_patient_crosses_folds_and_the_record_says_what_the_run_is(several: Run) -> None:
    record = files.read_json(several.folder.config)
    assert record["format"] == files.FINDINGS_FORMAT
    assert record["config"]["task"] == "multi"
    assert record["classes"] == ["bacteria", "virus"]
    certificate = files.read_json(several.folder.certificate)
    assert certificate["patient_ids_crossing_folds"] == certificate["groups_crossing_folds"] == 0
    assert certificate["findings"]["bacteria"]["n_unknown"] > 0


def test_a_fold_that_is_trained_again_has_the_same_weights(several: Run, tmp_path: Path) -> None:
    config = several.config
    for name in ("whole", "again"):
        folder = RunFolder.named(tmp_path / "experiments", name)
        shutil.copytree(several.folder.path, folder.path, ignore=shutil.ignore_patterns("folds", "metrics"))
        verified.remove(folder.config)
        begun = begin_run(config, folder, Execution(cache=several.cache, devices="cpu"))
        train_fold(begun, 0, "cpu")
    weights = [(tmp_path / "experiments" / name / "folds/fold=0/weights.safetensors") for name in ("whole", "again")]
    assert weights[0].read_bytes() == weights[1].read_bytes() == several.folder.fold(0).weights.read_bytes()


def test_the_checks_look_at_findings_and_pass(run: Run) -> None:
    verdicts = {verdict.table: verdict for verdict in check_data(run.folder, run.config, Tolerances())}
    assert "findings" in verdicts
    assert not [finding for verdict in verdicts.values() for finding in verdict.failed("critical")]
    assert not [finding for verdict in check_results(run, Tolerances()) for finding in verdict.failed("critical")]
    baseline = files.read_table(run.folder.acquisition_baseline)
    assert baseline["class"].unique().tolist() == list(FINDINGS)
    assert "Of the finding that it predicts best" in run.folder.checks_report.read_text()


def test_a_package_of_findings_averages_the_calibrated_folds(package: Package, several: Run) -> None:
    assert package.facts["format"] == files.FINDINGS_FORMAT
    assert package.outputs == FINDINGS
    logits = np.random.default_rng(0).normal(size=(2, 5, 2))
    probability, spread, called = package.call(logits)
    for k, name in enumerate(FINDINGS):
        own = package.facts["calibration"]["by_finding"][name]
        by_fold = expit(logits[..., k] / own["temperature"] + own["bias"][1] - own["bias"][0])
        np.testing.assert_allclose(probability[:, k], by_fold.mean(axis=0), rtol=1e-12)
        np.testing.assert_array_equal(called[:, k], probability[:, k] >= package.facts["thresholds"][name]["youden"])
    assert (spread >= 0).all()
    card = package.folder.card.read_text()
    known = several.images()["finding_bacteria"].notna().sum()
    assert f"| bacteria | {known} |" in card
    images = package.images()
    assert images["finding_bacteria"].isna().any()
    assert images["called_virus"].dtype == bool


def test_what_is_for_one_label_refuses_findings_in_one_sentence(several: Run, package: Package, tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"run 'several' predicts several findings per image \(--task multi\)"):
        _ = several.classes
    with pytest.raises(TaskError, match="model 'findings' predicts several findings per image"):
        _ = package.classes
    with pytest.raises(PackageError, match="--prevalence needs two classes, and there are several findings"):
        make_package(several, ModelFolder.named(tmp_path, "other"), prevalence=0.1)
    labels = tmp_path / "labels.csv"
    labels.write_text("path,label\nx.png,bacteria\n")
    models = package.folder.path.parent.parent
    with pytest.raises(TaskError, match=r"model 'findings' predicts several findings"):
        app(["recalibrate", "findings", f"--labels={labels}", f"--models={models}"])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"positive": "bacteria"}, "--positive bacteria is for two classes"),
        ({"leave_out": "cluster"}, "--leave-out cluster compares images of one class"),
    ],
)
def test_options_for_one_label_are_refused(options: dict[str, str], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        DataConfig(data="x", task="multi", **options)


def test_folders_without_subtypes_are_refused_before_an_image_is_read(sample: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--task multi needs to know which findings an image has"):
        examine(DataConfig(data=str(sample), task="multi"), RunFolder(tmp_path / "run"), cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_program_that_knows_another_format_is_named(several: Run, tmp_path: Path) -> None:
    record = files.read_json(several.folder.config) | {"format": 5}
    with pytest.raises(FormatError, match="has format 5, this cxr reads format 3 and 4"):
        files.require_format(tmp_path, record)


def test_scores_have_a_probability_and_a_call_for_each_finding(
    model: ModelFolder, package: Package, tmp_path: Path
) -> None:
    draw_inbox(tmp_path / "inbox", n_images=6, seed=2)
    places = [f"--models={model.path.parent}", f"--cache={tmp_path / 'cache'}", f"--out={tmp_path / 'scores'}"]
    options = ["--name=findings", "--settle=0", "--force", "--precision=fp32"]
    assert ended_with(["score", str(tmp_path / "inbox"), *options, *places]) == 0
    rows = pd.concat(map(pd.read_parquet, (tmp_path / "scores").glob("ward-3/*.parquet")))
    scored = rows[rows["status"] == "ok"].sort_values("path", ignore_index=True)
    assert "predicted_label" not in rows
    assert len(scored) == 6
    for name, limit in zip(FINDINGS, package.limits, strict=True):
        expected = scored[f"probability_{name}"] >= limit
        assert scored[f"called_{name}"].astype(bool).tolist() == expected.tolist()
    assert rows.loc[rows["status"] != "ok", FINDINGS.called_columns].isna().all(axis=None)
    images = [(tmp_path / "inbox" / "ward-3" / path).read_bytes() for path in scored["path"]]
    squares = np.stack([decode_square(image, package.size) for image in images])
    session = onnxruntime.InferenceSession(package.folder.onnx, providers=["CPUExecutionProvider"])
    (probability,) = session.run(["probability"], {"squares": squares})
    np.testing.assert_allclose(probability, scored[FINDINGS.probability_columns], atol=1e-5)
    table = library.Predictor(package, device="cpu", precision="fp32").predict_files(
        [tmp_path / "inbox" / "ward-3" / path for path in scored["path"]]
    )
    np.testing.assert_allclose(
        table[FINDINGS.probability_columns], scored[FINDINGS.probability_columns], rtol=1e-5, atol=1e-7
    )


def test_an_image_is_explained_for_the_finding_that_is_asked_for(
    model: ModelFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw_inbox(tmp_path / "inbox", n_images=1, seed=2)
    image = tmp_path / "inbox" / "ward-3" / "image-0001.jpeg"
    places = [f"--models={model.path.parent}", f"--cache={tmp_path / 'cache'}", f"--out={tmp_path / 'pictures'}"]
    command = ["explain", str(image), "--name=findings", *places]
    app([*command, "--class=virus"])
    shown = capsys.readouterr().out
    assert re.search(r"virus with probability 0\.\d{3}, predicted from 0\.\d\d up", shown)
    assert "where the model looked for virus" in shown
    with pytest.raises(ConfigError, match="--class must be one of bacteria, virus"):
        app([*command, "--class=no virus"])


def changed(package: Package, model: ModelFolder, change: Callable[[pd.DataFrame], pd.DataFrame]) -> Package:
    """Return the package with other reference images, for a comparison in memory."""

    class Changed(Package):
        def images(self) -> pd.DataFrame:
            return change(super().images())

    return Changed(**{name: getattr(package, name) for name in package.__dataclass_fields__})


def test_a_challenger_with_one_worse_finding_is_refused(package: Package, model: ModelFolder) -> None:
    def good(images: pd.DataFrame) -> pd.DataFrame:
        scatter = np.random.default_rng(0).normal(size=(2, len(images)))
        scores = {
            f"probability_{name}": expit(3 * images[f"finding_{name}"].fillna(False).to_numpy(float) + scatter[k])
            for k, name in enumerate(FINDINGS)
        }
        return images.assign(**scores)

    def worse_in_virus(images: pd.DataFrame) -> pd.DataFrame:
        return good(images).assign(probability_virus=np.random.default_rng(1).random(len(images)))

    champion = changed(package, model, good)
    sentence, is_worse = challenger.compare(champion, changed(package, model, worse_in_virus))
    assert is_worse
    assert re.search(r"worse, corrected for the number of findings: virus -0\.\d+ \(at most -0\.\d+\)", sentence)
    assert "bacteria -" not in sentence
    sentence, is_worse = challenger.compare(champion, champion)
    assert not is_worse
    assert sentence.endswith("no finding is shown to be worse")


def test_one_label_and_several_findings_are_not_compared(package: Package, home: Path) -> None:
    single = registry.load_champion(home / "models", "tiny")
    sentence, is_worse = challenger.compare(single, package)
    assert is_worse
    assert "('bacteria', 'virus') (several findings per image)" in sentence


def test_runs_stress_learning_curve_and_an_external_set_by_finding(
    run: Run, sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = RunFolder(run.folder.path.with_name("other"))
    shutil.copytree(run.folder.path, other.path)
    comparison = compare_runs([run.folder, other])
    rows = comparison.metrics.query("run == 'other' and metric == 'roc_auc'").set_index("class")
    assert rows.index.tolist() == [*FINDINGS, "macro"]
    assert rows["difference"].tolist() == [0, 0, 0]
    assert rows.loc["virus", ["test", "p_value"]].tolist() == ["DeLong", 1.0]
    assert comparison.changed.empty
    stressed = stress(run, n_images=12)
    assert set(stressed["class"]) == {*FINDINGS, "macro"}
    curve = learning_curve(run, [0.5])
    assert set(curve["class"]) == {*FINDINGS, "macro"}
    draw_images(tmp_path / "elsewhere", n_images=40, seed=7)
    test = evaluate_external(run, str(hide_subtypes(tmp_path / "elsewhere", tmp_path / "hidden")))
    outside = files.read_table(test.metrics)
    images = files.read_table(test.predictions)
    auc = outside.query("metric == 'roc_auc' and operating_point == 'youden'").set_index("class")
    for name in FINDINGS:
        assert auc.loc[name, "value"] == pytest.approx(by_scikit_learn(images, name)["roc_auc"])
        assert auc.loc[name, "n"] == images[f"finding_{name}"].notna().sum()
    app(["runs", f"--experiments={run.folder.path.parent}"])
    assert "several" in capsys.readouterr().out


def test_the_report_leads_to_a_page_of_each_finding_and_every_number_agrees_with_its_table(run: Run) -> None:
    report = write_report(run)
    pages = {name: run.folder.report_of(k, name) for k, name in enumerate(FINDINGS, 1)}
    links = re.findall(r'<a href="([^"#]+)"', report.read_text())
    assert {page.name for page in pages.values()} == set(links)
    for name, page in pages.items():
        text = page.read_text()
        assert f'<b aria-current="page">{name}</b>' in text
        others = {other.name for finding, other in pages.items() if finding != name} | {"report.html"}
        assert others == set(re.findall(r'<a href="([^"#]+)"', text))
        assert f"predicts whether an image shows {name}" in text
    n_compared, wrong = disagreements(run.folder.path)
    assert wrong == []
    assert n_compared > 500


def test_the_library_returns_findings(several: Run) -> None:
    loaded = library.load_run(several.folder.path)
    assert loaded.classes == FINDINGS
    assert set(loaded.metrics()["class"]) == {*FINDINGS, "macro"}
    assert loaded.summary().set_index(["class", "metric"]).loc[("virus", "roc_auc"), "n_known"] > 0


def test_the_tables_are_written_again_alike(run: Run) -> None:
    before = verified.read_table(run.folder.metrics)
    evaluate(run)
    pd.testing.assert_frame_equal(verified.read_table(run.folder.metrics), before, check_exact=True)


def test_the_task_is_part_of_a_runs_identity_and_its_default_changes_none(sample: Path) -> None:
    config = small_config(sample, task="multi", label_from="subtype")
    assert config.default_run_id != small_config(sample, label_from="subtype").default_run_id
    assert "task" not in small_config(sample).as_dict()
