import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from cxr.classes import Classes
from cxr.cli import run_results
from cxr.evaluation import published
from cxr.evaluation.on_request.comparison import Comparison
from cxr.storage import files, verified
from cxr.storage.run_folder import ComparisonFolder, RunFolder

TWO = Classes(("NORMAL", "PNEUMONIA"))
THREE = Classes(("NORMAL", "bacteria", "virus"))
NAN = float("nan")


def test_a_runs_results_are_in_percent_with_a_dash_for_what_is_undefined(
    tmp_path: Path, printed: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path / "first")
    verified.write_json(folder.config, {"format": files.FORMAT, "classes": list(TWO), "positive": "PNEUMONIA"})
    row = {"class": "PNEUMONIA", "metric": "roc_auc", "mean": 0.9876, "sd": 0.0123, "pooled": 0.98}
    undefined = row | {"metric": "f1", "mean": NAN, "sd": NAN, "pooled": NAN, "ci_low": NAN, "ci_high": NAN}
    verified.write_table(folder.summary, pd.DataFrame([row | {"ci_low": 0.97, "ci_high": 0.99}, undefined]))
    verified.write_table(folder.manifest, pd.DataFrame({"path": ["N/1.png"]}))
    run_results.show_results(folder)
    lines = printed()
    assert "ROC-AUC 98.8 ± 1.2 98.0 [97.0, 99.0]" in lines
    assert "F1 – –" in lines
    monkeypatch.setattr(published, "FILE_NAMES_SHA256", hashlib.sha256(b"N/1.png").hexdigest())
    run_results.show_results(folder)
    lines = printed()
    assert "ROC-AUC 98.8 ± 1.2 98.0 [97.0, 99.0] 97.5" in lines
    assert "F1 – – 93.9" in lines
    assert "checks none: `cxr validate` checks the images" in lines
    assert not any(line.startswith("report") for line in lines)
    folder.report.touch()
    run_results.show_results(folder)
    lines = printed()
    assert f"report {folder.report}" in lines
    assert not any("cluster" in line for line in lines)
    cluster = {"metric": "roc_auc", "ci_low": 0.7, "ci_high": 0.9}
    clusters = [cluster | {"fold": fold, "value": value} for fold, value in enumerate((0.95, 0.8123, NAN))]
    verified.write_table(folder.table("cluster_metrics"), pd.DataFrame(clusters))
    run_results.show_results(folder)
    assert any(line.endswith("worst: cluster 1, ROC-AUC 81.2% [70.0, 90.0]") for line in printed())


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
    run_results.show_checks(folder)
    lines = printed()
    assert "images 1,200 found → 1,190 used" in lines
    assert "left aside 2 × hidden folder: '.old/1.png', '.old/2.png'" in lines
    assert "critical 1 of 1 expectations passed" in lines
    assert "warning 0 of 1 expectations passed" in lines
    assert "warning, manifest: No copies." in lines
    assert "3 exceptions: a.png" in lines
    assert "verdict passed" in lines
    verified.write_table(folder.expectations, rows.assign(passed=False))
    run_results.show_checks(folder)
    assert "verdict stopped: a critical expectation failed" in printed()


def test_runs_have_a_line_each_and_a_hint_where_there_are_none(printed: Callable[[], list[str]]) -> None:
    runs = pd.DataFrame([{"run": "r", "folds": "1 of 2", "accuracy": 91.25, "f1": NAN}])
    run_results.show_runs(runs)
    assert "r 1 of 2 91.2 –" in printed()
    run_results.show_runs(runs[:0])
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
    run_results.show_comparison(comparison, folder)
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
    run_results.show_comparison(replace(comparison, is_unlike=True), folder)
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
    run_results.show_stress(pd.concat(stress), classes, {"table": "stress.parquet"})
    lines = printed()
    assert "blur 90.0 80.0 –" in lines
    assert "blur 1.5 px 90.0 80.0 –" in lines
    assert lines[-1] == "table stress.parquet"
    run_results.show_learning_curve(rows.assign(share=0.25), classes, {})
    assert "0.25 1,000 90.0 80.0 –" in printed()
