import dataclasses
import shutil
from pathlib import Path

from app.server import Folders
from cxr.storage import files
from cxr.storage.scores_folder import ScoresFolder
from cxr.verdict import Finding, Verdict
from tests.app.support import opened, pictures, texts


def test_scoring_runs_show_counts_reasons_and_images_worth_a_second_look(folders: Folders) -> None:
    view = opened("scoring_runs", folders)
    shown = {metric.label: metric.value for metric in view.metric}
    assert (shown["Images scored"], shown["Quarantined"], shown["Other files"]) == ("6", "6", "0")
    tables = [frame.value for frame in view.dataframe]
    assert tables[0][["batch", "state", "images", "quarantined"]].to_numpy().tolist() == [["ward-3", "published", 6, 6]]
    quarantined = next(table for table in tables if list(table.columns) == ["picture", "path", "reason", "detail"])
    assert set(quarantined["reason"]) == {
        "blank",
        "truncated",
        "empty",
        "not an image",
        "colour photograph",
        "unsupported format",
    }
    has_picture = quarantined.set_index("reason")["picture"].notna()
    assert set(has_picture.index[has_picture]) == {"blank", "colour photograph"}
    assert "Worth a second look: nearest to the threshold" in texts(view)
    assert len(pictures(view)) == 12, "six images, twice"
    assert "not available" not in texts(view)
    assert [button.label for button in view.download_button] == ["Report (HTML)"]
    assert len(tables[-1]) == 12


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
    assert "1 image is unlike the training images." in texts(view)
    assert texts(view).count("**Unlike the training images**") == 2, "the list, and its image in place of a class"
    added = ("n_unlike_training", "unlike_training", "other_files")
    old = {name: value for name, value in batch.items() if name not in added}
    files.write_json(run.record, record | {"batches": [old]})
    (part,) = copy.scores.glob("[!_]*/*.parquet")
    files.write_table(part, files.read_table(part).drop(columns="unlike_training"))
    view = opened("scoring_runs", copy)
    assert "unlike the training images" not in texts(view)
    assert view.dataframe[-1].value["unlike_training"].isna().all()


def test_the_batch_that_is_held_is_opened_first_with_what_was_expected_and_found(
    folders: Folders, tmp_path: Path
) -> None:
    shutil.copytree(folders.scores, tmp_path / "scores")
    copy = dataclasses.replace(folders, scores=tmp_path / "scores")
    (run,) = ScoresFolder.at(copy.scores).scoring_runs()
    record = files.read_json(run.record)
    (batch,) = record["batches"]
    found = [{"name": "share_of_x", "value": 0.5}]
    failed = Finding(
        "expect", "x", "critical", passed=False, sentence="At most 1.", n_rows=1, n_unexpected=1, unexpected=found
    )
    verdicts = [Verdict("drift", "a row", "critical", [failed]).as_dict()]
    held = batch | {"batch": "ward-4", "decision": "held", "verdicts": verdicts}
    files.write_json(run.record, record | {"batches": [batch, held]})
    view = opened("scoring_runs", copy)
    assert view.selectbox[1].options == ["ward-4: held", "ward-3: published"]
    assert view.error[0].value == r"**Critical, not met:** At most 1\. Found: share\_of\_x \(0\.5\)."


def test_referred_images_are_counted_and_their_answer_stands_in_place_of_a_class(
    folders: Folders, tmp_path: Path
) -> None:
    shutil.copytree(folders.scores, tmp_path / "scores")
    copy = dataclasses.replace(folders, scores=tmp_path / "scores")
    (run,) = ScoresFolder.at(copy.scores).scoring_runs()
    record = files.read_json(run.record)
    (batch,) = record["batches"]
    assert batch["n_referred"] is None
    nearest = [batch["nearest"][0] | {"answer": "refer", "prediction_set": ""}, *batch["nearest"][1:]]
    referred = batch | {"n_referred": {"fits none": 1, "fits several": 0}, "nearest": nearest}
    files.write_json(run.record, record | {"batches": [referred]})
    (part,) = copy.scores.glob("[!_]*/*.parquet")
    files.write_table(part, files.read_table(part).assign(answer="refer", prediction_set=""))
    view = opened("scoring_runs", copy)
    assert "1 referred: 1 fit no class, 0 fit several." in texts(view)
    assert texts(view).count("**Refer**") == 1
    assert "answer" in view.dataframe[-1].value


def test_files_that_left_the_inbox_have_no_pictures(folders: Folders, tmp_path: Path) -> None:
    shutil.copytree(folders.scores, tmp_path / "scores")
    copy = dataclasses.replace(folders, scores=tmp_path / "scores")
    (run,) = ScoresFolder.at(copy.scores).scoring_runs()
    files.write_json(run.record, files.read_json(run.record) | {"inbox": str(tmp_path / "gone")})
    view = opened("scoring_runs", copy)
    assert not pictures(view)
    assert "6 of these 6 images are not available: moved, deleted or changed since." in texts(view)
