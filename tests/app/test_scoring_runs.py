import dataclasses
import shutil
from pathlib import Path

from app.scoring_runs import _readable_time
from app.server import Folders
from cxr.storage import files
from cxr.storage.scores_folder import ScoresFolder
from tests.app.support import opened, texts


def test_scoring_runs_show_counts_reasons_and_images_worth_a_second_look(folders: Folders) -> None:
    view = opened("scoring_runs", folders)
    shown = {metric.label: metric.value for metric in view.metric}
    assert (shown["Images scored"], shown["Quarantined"], shown["Other files"]) == ("6", "6", "0")
    tables = [frame.value for frame in view.dataframe]
    assert tables[0][["batch", "state", "images", "quarantined"]].to_numpy().tolist() == [["ward-3", "published", 6, 6]]
    quarantined = next(table for table in tables if list(table.columns) == ["path", "reason", "detail"])
    assert set(quarantined["reason"]) == {
        "blank",
        "truncated",
        "empty",
        "not_an_image",
        "colour_photograph",
        "unsupported_format",
    }
    assert "Worth a second look: nearest to the threshold" in texts(view)
    assert len(tables[-1]) == 12


def test_a_scoring_run_is_named_by_its_minute() -> None:
    assert _readable_time("2026-11-26T02-00-07Z") == "2026-11-26 02:00"


def test_scores_and_records_of_before_are_shown_and_images_unlike_the_training_images_are_named(
    folders: Folders, tmp_path: Path
) -> None:
    shutil.copytree(folders.scores, tmp_path / "scores")
    copy = dataclasses.replace(folders, scores=tmp_path / "scores")
    (run,) = ScoresFolder.at(copy.scores).scoring_runs()
    record = files.read_json(run.record)
    (batch,) = record["batches"]
    far = batch["nearest"][0] | {"novelty": 99.0, "unlike_training": True}
    unlike = batch | {"n_unlike_training": 1, "unlike_training": [far], "other_files": {"text": 2, "PDF document": 1}}
    files.write_json(run.record, record | {"batches": [unlike]})
    view = opened("scoring_runs", copy)
    assert {metric.label: metric.value for metric in view.metric}["Other files"] == "3"
    assert "1 of the images are unlike the training images." in texts(view)
    assert "**Unlike the training images**" in texts(view)
    added = ("n_unlike_training", "unlike_training", "other_files")
    old = {name: value for name, value in batch.items() if name not in added}
    files.write_json(run.record, record | {"batches": [old]})
    (part,) = copy.scores.glob("[!_]*/*.parquet")
    files.write_table(part, files.read_table(part).drop(columns="unlike_training"))
    view = opened("scoring_runs", copy)
    assert "unlike the training images" not in texts(view)
    assert view.dataframe[-1].value["unlike_training"].isna().all()
