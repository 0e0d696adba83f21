import shutil
from pathlib import Path

import numpy as np
import pandas as pd

from app.runs.comparison import differences
from app.runs.view import _comparable
from app.server import Folders
from cxr.storage import files, verified
from cxr.storage.run_folder import RunFolder
from tests.app.support import open_run, opened, pictures, texts


def test_a_run_and_its_copy_do_not_differ(folders: Folders, tmp_path: Path) -> None:
    for name in ("one", "other"):
        shutil.copytree(folders.experiments / "run", tmp_path / name, ignore=shutil.ignore_patterns("*.safetensors"))
    view = opened("runs", Folders(tmp_path, folders.models, folders.scores, folders.cache))
    open_run(view, "one")
    view.pills[0].set_value("Compare").run()
    view.selectbox[0].set_value("other").run()
    assert not view.exception
    shown = view.table[0].value["other minus one, points [95%]"].str.replace("\N{NO-BREAK SPACE}", " ")
    assert set(shown) == {"+0.0 [+0.0, +0.0]"}
    assert not view.image


def test_a_run_that_cannot_be_compared_is_not_offered(folders: Folders, tmp_path: Path) -> None:
    weights = shutil.ignore_patterns("*.safetensors")
    for name in ("one", "same", "begun", "unlike", "strange", "relabelled"):
        shutil.copytree(folders.experiments / "run", tmp_path / name, ignore=weights)
    shutil.rmtree(RunFolder(tmp_path / "begun").summary.parent)
    config = RunFolder(tmp_path / "unlike").config
    verified.write_json(config, files.read_record(config) | {"classes": ["sick", "well"]})
    predictions = RunFolder(tmp_path / "one").predictions
    table = files.read_table(predictions)
    verified.write_table(
        RunFolder(tmp_path / "strange").predictions, table.assign(image_id="other " + table["image_id"])
    )
    swapped = table["label"].map({"NORMAL": "PNEUMONIA", "PNEUMONIA": "NORMAL"})
    verified.write_table(RunFolder(tmp_path / "relabelled").predictions, table.assign(label=swapped))
    names = ["unlike", "begun", "same", "one", "strange", "relabelled"]
    assert _comparable(RunFolder(tmp_path / "one"), tmp_path, names) == ["same"]


def test_images_that_two_runs_predict_differently_are_shown(folders: Folders, tmp_path: Path) -> None:
    for name in ("one", "other"):
        shutil.copytree(folders.experiments / "run", tmp_path / name, ignore=shutil.ignore_patterns("*.safetensors"))
    predictions = RunFolder(tmp_path / "other").predictions
    table = files.read_table(predictions)
    probabilities = ["probability_NORMAL", "probability_PNEUMONIA"]
    table.loc[:2, probabilities] = 1 - table.loc[:2, probabilities]
    verified.write_table(predictions, table)
    view = opened("runs", Folders(tmp_path, folders.models, folders.scores, folders.cache))
    open_run(view, "one")
    view.pills[0].set_value("Compare").run()
    assert not view.exception
    assert "different classes for **3 images**" in texts(view)
    assert len(pictures(view)) == 3
    assert set(view.dataframe[-1].value["path"]) == set(table["path"].head(3))
    view.text_input[0].set_value(table["path"].iloc[1]).run()
    assert view.dataframe[-1].value["path"].tolist() == [table["path"].iloc[1]]


def test_differences_are_in_points_and_name_their_test() -> None:
    rows = pd.DataFrame(
        {
            "run": ["a", "b"],
            "class": "PNEUMONIA",
            "metric": "roc_auc",
            "value": [0.9, 0.95],
            "difference": [np.nan, 0.05],
            "ci_low": [np.nan, 0.01],
            "ci_high": [np.nan, 0.09],
            "p_value": [np.nan, 0.012],
            "test": [None, "DeLong"],
        }
    )
    table = differences(rows, "a", "b")
    row = table.loc["ROC-AUC"].str.replace("\N{NO-BREAK SPACE}", " ")
    assert row.tolist() == ["90.0", "95.0", "+5.0 [+1.0, +9.0]", "0.012 (DeLong)"]
    assert table.columns[2] == "b minus a, points [95%]"
