import dataclasses
from pathlib import Path

import pandas as pd

from app.server import Folders
from tests.app.support import opened, texts
from tests.support.scores import draw_scores, label_scores


def test_later_labels_show_the_verdict_the_weeks_and_the_promise(folders: Folders, home: Path, tmp_path: Path) -> None:
    draw_scores(tmp_path / "scores", [True, False] * 10)
    copy = dataclasses.replace(folders, scores=tmp_path / "scores")
    assert "Labels that came later" not in texts(opened("scoring_runs", copy))
    (verdict,) = label_scores(home, copy.scores).to_dict("records")
    view = opened("scoring_runs", copy)
    assert "Labels that came later" in texts(view)
    assert [info.value for info in view.info] == [
        f"Version 1: {verdict['verdict']} ({verdict['reason'].replace('.', chr(92) + '.')})."
    ]
    (table,) = [frame.value for frame in view.dataframe if "promised" in frame.value]
    assert table[["n_images", "n_patients"]].to_numpy().tolist() == [[20, 20]]
    assert table["roc_auc"].tolist() == [100 * verdict["roc_auc"]]


def test_a_model_of_three_classes_has_a_row_for_each(folders: Folders, labelled_three: Path) -> None:
    view = opened("scoring_runs", dataclasses.replace(folders, scores=labelled_three / "scores"))
    (table,) = [frame.value for frame in view.dataframe if "promised" in frame.value]
    verdicts = pd.read_parquet(labelled_three / "scores" / "_feedback" / "three" / "verdicts.parquet")
    assert table["class"].tolist() == ["macro", *verdicts["class"].drop(index=3)]
    assert dict(zip(table["class"], table["verdict"], strict=True)) == dict(
        zip(verdicts["class"], verdicts["verdict"], strict=True)
    )


def test_a_broken_promise_is_an_error(folders: Folders, home: Path, tmp_path: Path) -> None:
    draw_scores(tmp_path / "scores", [True, False] * 200, shift=6.0)
    label_scores(home, tmp_path / "scores", flip=True)
    view = opened("scoring_runs", dataclasses.replace(folders, scores=tmp_path / "scores"))
    assert [error.value for error in view.error] == ["Version 1: surely below."]
