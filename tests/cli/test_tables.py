import hashlib
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from cxr.classes import Classes
from cxr.cli import tables
from cxr.evaluation import published
from cxr.evaluation.on_request.comparison import Comparison
from cxr.metrics.calibration import Calibration
from cxr.serving.package import Package
from cxr.storage import files, verified
from cxr.storage.model_folder import PackageFolder
from cxr.storage.run_folder import ComparisonFolder, ExplanationFolder, RunFolder
from cxr.storage.scores_folder import ScoringRunFolder

TWO = Classes(("NORMAL", "PNEUMONIA"))
THREE = Classes(("NORMAL", "bacteria", "virus"))
NAN = float("nan")


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Callable[[], list[str]]:
    """The printed lines, their words parted by one space, without the rules of tables."""
    return lambda: [" ".join(re.sub("[│┃]", " ", line).split()) for line in capsys.readouterr().out.splitlines()]


def test_a_runs_results_are_in_percent_with_a_dash_for_what_is_undefined(
    tmp_path: Path, printed: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path / "first")
    verified.write_json(folder.config, {"format": files.FORMAT, "classes": list(TWO), "positive": "PNEUMONIA"})
    row = {"class": "PNEUMONIA", "metric": "roc_auc", "mean": 0.9876, "sd": 0.0123, "pooled": 0.98}
    undefined = row | {"metric": "f1", "mean": NAN, "sd": NAN, "pooled": NAN, "ci_low": NAN, "ci_high": NAN}
    verified.write_table(folder.summary, pd.DataFrame([row | {"ci_low": 0.97, "ci_high": 0.99}, undefined]))
    verified.write_table(folder.manifest, pd.DataFrame({"path": ["N/1.png"]}))
    tables.show_results(folder)
    lines = printed()
    assert "roc_auc 98.8 ± 1.2 98.0 [97.0, 99.0]" in lines
    assert "f1 – –" in lines
    monkeypatch.setattr(published, "FILE_NAMES_SHA256", hashlib.sha256(b"N/1.png").hexdigest())
    tables.show_results(folder)
    lines = printed()
    assert "roc_auc 98.8 ± 1.2 98.0 [97.0, 99.0] 97.5" in lines
    assert "f1 – – 93.9" in lines
    assert "checks none: `cxr validate` checks the images" in lines
    assert not any(line.startswith("report") for line in lines)
    folder.report.touch()
    tables.show_results(folder)
    lines = printed()
    assert f"report {folder.report}" in lines
    assert not any("cluster" in line for line in lines)
    cluster = {"metric": "roc_auc", "ci_low": 0.7, "ci_high": 0.9}
    clusters = [cluster | {"fold": fold, "value": value} for fold, value in enumerate((0.95, 0.8123, NAN))]
    verified.write_table(folder.table("cluster_metrics"), pd.DataFrame(clusters))
    tables.show_results(folder)
    assert any(line.endswith("worst: cluster 1, ROC-AUC 81.2 [70.0, 90.0] %") for line in printed())


def test_checks_are_counted_by_severity_and_what_failed_is_named(
    tmp_path: Path, printed: Callable[[], list[str]]
) -> None:
    folder = RunFolder(tmp_path / "first")
    identical = {"groups": 1, "images": 2, "across_classes": 0}
    verified.write_json(folder.data, {"images": {"found": 1200, "used": 1190}, "identical": identical})
    passed = {"severity": "critical", "passed": True, "table": "folds", "sentence": "Fine.", "n_unexpected": 0}
    failed = {"severity": "warning", "passed": False, "table": "manifest", "sentence": "No copies.", "n_unexpected": 3}
    rows = pd.DataFrame([passed | {"examples": ""}, failed | {"examples": "a.png"}])
    verified.write_table(folder.expectations, rows)
    aside = pd.DataFrame({"path": [".old/1.png", ".old/2.png"], "kind": "hidden folder", "n_bytes": 1})
    verified.write_table(folder.left_aside, aside)
    tables.show_checks(folder)
    lines = printed()
    assert "images 1,200 found → 1,190 used" in lines
    assert "left aside 2 × hidden folder: '.old/1.png', '.old/2.png'" in lines
    assert "critical 1 of 1 expectations passed" in lines
    assert "warning 0 of 1 expectations passed" in lines
    assert "warning, manifest: No copies." in lines
    assert "3 exceptions: a.png" in lines
    assert "verdict passed" in lines
    verified.write_table(folder.expectations, rows.assign(passed=False))
    tables.show_checks(folder)
    assert "verdict stopped: a critical expectation failed" in printed()


def test_a_scoring_run_names_its_batches_and_what_is_held_from_before(
    tmp_path: Path, printed: Callable[[], list[str]]
) -> None:
    folder = ScoringRunFolder(tmp_path / "scores" / "_scoring_runs" / "now")
    quiet = {"batch": "old", "decision": "nothing new", "n_scored": 0, "n_quarantined": 0, "n_waiting": 0}
    held = {"batch": "b", "decision": "held", "n_scored": 1500, "n_quarantined": 1, "n_waiting": 2}
    held |= {"n_unlike_training": 3, "other_files": {"text": 4, "PDF document": 1}}
    unknown = held | {"batch": "c", "n_unlike_training": None, "other_files": {}}
    record = {"format": files.FORMAT, "model": "tiny", "model_version": "3", "batches": [quiet, held, unknown]}
    files.write_json(folder.record, record | {"held": {"b": 1501, "a": 7}})
    tables.show_scoring_run(folder)
    lines = printed()
    assert "held 'b': 1500 scored (3 unlike the training images), 1 quarantined, 5 other files, 2 waiting" in lines
    assert "held 'c': 1500 scored, 1 quarantined, 2 waiting" in lines
    assert "held, earlier scoring run 'a': 7 rows, until `cxr release` publishes them" in lines
    assert "model tiny 3, 3,000 images scored in this run" in lines
    assert not any("'old':" in line for line in lines)


def test_models_and_runs_have_a_line_each_and_a_hint_where_there_are_none(
    printed: Callable[[], list[str]],
) -> None:
    model = {"name": "tiny", "version": "1", "champion": True, "run": "r", "made_at": "today", "trainable": "head"}
    models = pd.DataFrame([model | {"size": 64, "n_images": 70, "roc_auc": NAN}])
    tables.show_models(models)
    assert "tiny 1 yes r today head 64 70 –" in printed()
    tables.show_models(models[:0])
    assert printed()[-1].startswith("no model yet: ")
    runs = pd.DataFrame([{"run": "r", "folds": "1 of 2", "accuracy": 91.25, "f1": NAN}])
    tables.show_runs(runs)
    assert "r 1 of 2 91.2 –" in printed()
    tables.show_runs(runs[:0])
    assert printed()[-1].startswith("no run yet: ")


def test_a_comparison_shows_differences_in_points_and_counts_what_is_left_out(
    tmp_path: Path,
    printed: Callable[[], list[str]],
) -> None:
    row = {"run": "b", "class": None, "metric": "accuracy", "value": 0.91, "difference": -0.021, "test": "permutation"}
    first = row | {"run": "a", "difference": NAN, "ci_low": NAN, "ci_high": NAN, "p_value": NAN, "test": None}
    metrics = pd.DataFrame([first, row | {"ci_low": -0.03, "ci_high": -0.01, "p_value": 0.0123}])
    comparison = Comparison(2000, {"a": 0, "b": 5}, metrics, pd.DataFrame({"image_id": range(1200)}))
    folder = ComparisonFolder(tmp_path)
    tables.show_comparison(comparison, folder)
    lines = printed()
    assert "2,000 images in common (5 more in b, left out)" in lines
    assert "a accuracy 91.00 – –" in lines
    assert "b accuracy 91.00 -2.10 [-3.00, -1.00] 0.012 (permutation)" in lines
    assert lines[-3:] == [
        "changed 1,200 images are predicted differently",
        f"tables {folder.metrics}",
        str(folder.changed_images),
    ]
    assert not any("--leave-out" in line for line in lines)
    tables.show_comparison(replace(comparison, is_unlike=True), folder)
    assert any("leave out different things (--leave-out)" in line for line in printed())


@pytest.mark.parametrize(("classes", "shown"), [(TWO, "PNEUMONIA"), (THREE, "macro")])
def test_stress_and_learning_curve_show_the_positive_class_or_the_macro_average(
    classes: Classes, shown: str, printed: Callable[[], list[str]]
) -> None:
    values = {"roc_auc": 0.9, "sensitivity": 0.8, "specificity": NAN}
    rows = pd.DataFrame(
        {"class": name, "metric": metric, "value": value if name == shown else 0.5, "pooled": value, "n_images": 1000}
        for name in (shown, "other")
        for metric, value in values.items()
    )
    levels = [(0, 0.0), (2, 1.5)]
    stress = [rows.assign(change="blur", strength=strength, amount=amount, unit="px") for strength, amount in levels]
    tables.show_stress(pd.concat(stress), classes, {"table": "stress.parquet"})
    lines = printed()
    assert "blur 90.0 80.0 –" in lines
    assert "blur 1.5 px 90.0 80.0 –" in lines
    assert lines[-1] == "table stress.parquet"
    tables.show_learning_curve(rows.assign(share=0.25), classes, {})
    assert "0.25 1,000 90.0 80.0 –" in printed()


@pytest.mark.parametrize(("classes", "limit"), [(TWO, ", predicted from 0.40 up"), (THREE, "")])
def test_explanations_say_what_is_predicted_and_why_a_file_is_not(
    classes: Classes, limit: str, tmp_path: Path, printed: Callable[[], list[str]]
) -> None:
    thresholds = {"half": 0.4} if classes == TWO else {}
    calibration = Calibration(1.0, (0.0,) * len(classes))
    folder = PackageFolder(tmp_path / "1")
    package = Package(
        folder, "tiny", classes, "head", 64, 2, calibration, thresholds, "half", {"novelty": {"limit": 20}}
    )
    label = classes[1]
    good = {"path": "a.png", "status": "ok", "predicted_label": label, f"probability_{label}": 0.75}
    bad = {"path": "b.txt", "status": "quarantined", "reason": "not_an_image", "detail": "text"}
    good |= {"fold_spread": 0.1, "target": "NORMAL", "picture": "1-a.png"}
    far = good | {"path": "c.png", "novelty": 31.26, "unlike_training": True}
    table = pd.DataFrame([good | {"unlike_training": None}, bad, far]).astype({"unlike_training": "boolean"})
    tables.show_explanations(table, package, ExplanationFolder(tmp_path))
    lines = printed()
    assert f"{label} with probability 0.750{limit}; the folds differ by 0.100" in lines
    assert f"where the model looked for NORMAL: {tmp_path / '1-a.png'}" in lines
    assert "'b.txt': not predicted, not an image: text" in lines
    assert [line for line in lines if "unlike" in line] == ["unlike the training images (novelty 31.3, limit 20.0)"]
