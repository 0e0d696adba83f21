import hashlib
from pathlib import Path

import pandas as pd
import pytest

from cxr.classes import Classes
from cxr.config import TrainConfig
from cxr.evaluation import published
from cxr.evaluation.overview import STARTING_PROJECT, headline, list_runs
from cxr.storage import files, verified
from cxr.storage.run_folder import RunFolder
from cxr.training.run import Run, load_run

CONFIG = TrainConfig(data="images", weights="none", trainable="all", size=64, epochs=6, folds=2)
NAMES = ["train/N/1.jpeg", "train/P/2.jpeg"]
ROW = {"mean": 0.9, "sd": 0.01, "pooled": 0.89, "ci_low": 0.87, "ci_high": 0.91}


def write_run(place: Path, name: str, classes: list[str], rows: list[tuple[str | None, str]] | None) -> RunFolder:
    folder = RunFolder(place / name)
    identity = CONFIG.as_dict() | {"data": "hash of the images", "weights": "none"}
    run = Run(folder, CONFIG, identity, Classes(classes), Path("cache"), ["cpu"], [1, 1], "off")
    begun_at = f"2026-01-01T00:00:0{len(classes)}+00:00"
    record = {"format": files.FORMAT, "begun_at": begun_at, **run.to_record(), "images": {"used": 7}}
    verified.write_json(folder.config, record)
    if rows:
        table = pd.DataFrame([{"class": name, "metric": metric, **ROW} for name, metric in rows])
        verified.write_table(folder.summary, table.astype({"class": "str"}))
    verified.write_table(folder.manifest, pd.DataFrame({"path": NAMES}))
    return folder


def test_the_headline_is_the_positive_class_in_percent_beside_the_starting_project_on_its_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [("P", "roc_auc"), ("P", "average_precision"), ("P", "true_positive")]
    folder = write_run(tmp_path, "two", ["N", "P"], rows)
    assert headline(folder)["starting_project"].isna().all(), "of other images"
    names = hashlib.sha256(b"train/N/1.jpeg\ntrain/P/2.jpeg").hexdigest()
    monkeypatch.setattr(published, "FILE_NAMES_SHA256", names)
    table = headline(folder).set_index("metric")
    assert table.index.tolist() == ["roc_auc", "average_precision"], "counts are no percentages"
    assert table.loc["roc_auc", ["mean", "sd", "pooled"]].tolist() == pytest.approx([90, 1, 89])
    assert table.loc["roc_auc", "starting_project"] == pytest.approx(100 * STARTING_PROJECT["roc_auc"])
    assert table["starting_project"].isna().tolist() == [False, True]
    assert table["mean_ci_low"].isna().all(), "a column that the table lacks"


def test_more_than_two_classes_have_overall_and_macro_metrics(tmp_path: Path) -> None:
    rows = [(None, "accuracy"), ("macro", "roc_auc"), ("a", "roc_auc")]
    table = headline(write_run(tmp_path, "three", ["a", "b", "c"], rows))
    assert table["metric"].tolist() == ["accuracy", "macro roc_auc"]
    assert table["starting_project"].isna().all()


def test_runs_are_listed_oldest_first_with_what_is_finished(tmp_path: Path) -> None:
    three = write_run(tmp_path, "three", ["a", "b", "c"], [("macro", "roc_auc")])
    write_run(tmp_path, "two", ["N", "P"], None)
    (tmp_path / "no_run").mkdir()
    done = {"config_hash": load_run(three).config_hash, "fold": 0, "share": 1.0}
    verified.write_json(three.fold(0).complete, done)
    verified.write_json(three.fold(1).complete, done | {"fold": 1, "config_hash": "another config"})
    table = list_runs(tmp_path)
    assert table["run"].tolist() == ["two", "three"]
    assert table["folds"].tolist() == ["0 of 2", "1 of 2"]
    assert table["images"].tolist() == [7, 7]
    assert table["leave_out"].tolist() == ["patient", "patient"]
    assert table["roc_auc"].tolist() == pytest.approx([float("nan"), 89], nan_ok=True)
