"""Labels that come after the scores, as `cxr feedback` takes them."""

import json
import multiprocessing
import os
import shutil
import signal
from pathlib import Path

import pandas as pd
import pytest
from pydicom import dcmread

from cxr.cli.main import app
from cxr.errors import ConfigError, CxrError, DataError, RunError
from cxr.feedback.feedback import give_feedback
from cxr.feedback.ledger import read_ledger
from cxr.feedback.summary import verdict_of
from cxr.images.reading import image_id_of as image_id_of_bytes
from cxr.labelling import Labelling
from cxr.serving.registry import load_champion
from cxr.storage import files
from cxr.storage.model_folder import ModelFolder
from cxr.storage.scores_folder import FeedbackFolder, ScoresFolder
from tests.support.dicom import write_images
from tests.support.faults import at_step, watching
from tests.support.labels import from_table
from tests.support.scores import draw_scores, image_id_of, write_labels

TRUTH = [number % 2 == 0 for number in range(20)]
LABELS = {f"monday/{number}.png": "PNEUMONIA" if of_class else "NORMAL" for number, of_class in enumerate(TRUTH)}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """The scores of 20 drawn images."""
    draw_scores(tmp_path / "scores", TRUTH)
    return tmp_path / "scores"


def give(home: Path, out: Path, labelling: Labelling | Path, by: str = "ada"):
    labelling = from_table(labelling) if isinstance(labelling, Path) else labelling
    model = ModelFolder.named(home / "models", "tiny")
    champion = load_champion(home / "models", "tiny")
    return give_feedback(ScoresFolder.at(out), model, champion, labelling, by=by, cache=out.parent / "cache")


def ledger_of(out: Path) -> pd.DataFrame:
    return read_ledger(ScoresFolder.at(out).feedback("tiny"))


def test_labels_in_instalments_are_judged_together_and_corrections_keep_their_history(home: Path, out: Path) -> None:
    halves = [dict(list(LABELS.items())[:10]), dict(list(LABELS.items())[10:])]
    wrong = halves[0] | {"monday/0.png": "NORMAL"}
    assert give(home, out, write_labels(out.parent / "one.csv", wrong)).n_new == 10
    corrected = halves[1] | {"monday/0.png": "PNEUMONIA"}
    entered = give(home, out, write_labels(out.parent / "two.csv", corrected), by="bob")
    assert (entered.n_new, entered.n_corrected, entered.n_known) == (10, 1, 0)
    history = ledger_of(out).query("image_id == @image_id_of(0)")
    assert history[["label", "given_by", "source"]].to_numpy().tolist() == [
        ["NORMAL", "ada", "one.csv"],
        ["PNEUMONIA", "bob", "two.csv"],
    ]
    verdict = verdict_of(ScoresFolder.at(out).feedback("tiny"), "1")
    assert verdict is not None
    assert (verdict["n_images"], verdict["n_positive"], verdict["n_patients"]) == (20, 10, 20)


def test_the_same_file_given_twice_adds_nothing(home: Path, out: Path) -> None:
    file = write_labels(out.parent / "labels.csv", LABELS)
    give(home, out, file)
    again = give(home, out, file)
    assert (again.n_added, again.n_known) == (0, 20)
    assert len(ledger_of(out)) == 20


def test_rows_of_images_that_are_not_scored_are_listed_and_count_once_they_are(home: Path, out: Path) -> None:
    file = write_labels(out.parent / "labels.csv", LABELS | {"monday/20.png": "NORMAL"})
    entered = give(home, out, file)
    assert entered.n_unmatched == 1
    unmatched = files.read_table(ScoresFolder.at(out).feedback("tiny").unmatched)
    assert unmatched.to_numpy().tolist() == [["monday/20.png", "labels.csv"]]
    draw_scores(out, [False], first=20)
    entered = give(home, out, file)
    assert (entered.n_new, entered.n_unmatched) == (1, 0)


def test_hashes_and_uids_name_images_without_an_option(home: Path, out: Path) -> None:
    table = pd.DataFrame({"image_id": [image_id_of(0), image_id_of(1)], "label": ["PNEUMONIA", "NORMAL"]})
    table.to_csv(out.parent / "hashes.csv", index=False)
    assert give(home, out, out.parent / "hashes.csv").n_new == 2


def test_a_uid_is_read_from_the_file_in_the_inbox_if_its_content_is_still_that_which_was_scored(
    home: Path, out: Path
) -> None:
    inbox = out.parent / "inbox"
    paths = write_images(inbox / "tuesday", 3)
    uids = [str(dcmread(path).SOPInstanceUID) for path in paths]
    rows = draw_scores(out, [True, False, True], batch="tuesday", first=30)
    rows["path"] = [path.rename(path.with_name(f"image {k}")).name for k, path in enumerate(paths)]
    rows["image_id"] = [image_id_of_bytes((inbox / "tuesday" / name).read_bytes()) for name in rows["path"]]
    (part,) = (out / "tuesday").glob("part-*.parquet")
    files.write_table(part, rows)
    record = {"format": files.FORMAT, "inbox": str(inbox)}
    files.write_json(ScoresFolder.at(out).scoring_run("2026-11-02T02-00-00-000000Z").record, record)
    pd.DataFrame({"SOPInstanceUID": uids, "label": ["PNEUMONIA", "NORMAL", "PNEUMONIA"]}).to_csv(
        out.parent / "u.csv", index=False
    )
    changed = dcmread(inbox / "tuesday" / "image 1")
    changed.PatientID = "another"
    changed.save_as(inbox / "tuesday" / "image 1")
    (inbox / "tuesday" / "image 2").unlink()
    os.mkfifo(inbox / "tuesday" / "image 2")  # is not waited for
    entered = give(home, out, out.parent / "u.csv")
    assert (entered.n_new, entered.n_unmatched) == (1, 2)


@pytest.mark.parametrize(
    ("labels", "error", "sentence"),
    [
        (
            {"monday/0.png": "COVID"},
            DataError,
            r"'monday/0.png' has the label 'COVID', .* classes 'NORMAL', 'PNEUMONIA'",
        ),
        ({"tuesday/99.png": "NORMAL"}, CxrError, "give --path-column"),
    ],
)
def test_a_wrong_table_is_refused_and_nothing_is_written(
    home: Path, out: Path, labels: dict[str, str], error: type[CxrError], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        give(home, out, write_labels(out.parent / "labels.csv", labels))
    assert ledger_of(out).empty
    assert not ScoresFolder.at(out).feedback("tiny").verdicts.exists()


def test_without_a_table_or_scores_one_sentence_says_what_is_missing(home: Path, out: Path) -> None:
    with pytest.raises(ConfigError, match="name the table of labels"):
        give(home, out, Labelling())
    file = write_labels(out.parent / "labels.csv", LABELS)
    with pytest.raises(RunError, match="there are no scores"):
        give(home, out.parent / "elsewhere", file)
    (out.parent / "empty").mkdir()
    with pytest.raises(DataError, match="no image that 'tiny' has scored is published"):
        give(home, out.parent / "empty", file)


def test_readers_of_the_scores_do_not_find_the_labels(home: Path, out: Path) -> None:
    before = pd.read_parquet(out)
    give(home, out, write_labels(out.parent / "labels.csv", LABELS))
    pd.testing.assert_frame_equal(pd.read_parquet(out), before)
    assert not [path for path in out.glob("*/*.parquet") if path.parent.name.startswith("_")]


def test_two_processes_do_not_enter_labels_at_once(home: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = ScoresFolder.at(out).feedback("tiny")
    file = write_labels(out.parent / "labels.csv", LABELS)
    monkeypatch.setattr("cxr.feedback.feedback.PATIENCE_S", 0)
    with files.locked(folder.lock, "feedback"), pytest.raises(RunError, match="feedback on 'tiny' is in use"):
        give(home, out, file)


def test_images_that_the_model_was_made_from_are_left_out_and_counted(home: Path, out: Path) -> None:
    draw_scores(out, [True, False], first=30, in_training=True)
    seen = {f"monday/{number}.png": label for number, label in ((30, "PNEUMONIA"), (31, "NORMAL"))}
    assert give(home, out, write_labels(out.parent / "labels.csv", LABELS | seen)).n_left_out == 2
    verdict = verdict_of(ScoresFolder.at(out).feedback("tiny"), "1")
    assert verdict is not None
    assert verdict["n_images"] == 20


def test_each_version_is_judged_by_its_own_scores(home: Path, out: Path) -> None:
    draw_scores(out, TRUTH, seed=7, model_version="2", scored_at=pd.Timestamp("2026-11-09T02:00Z"))
    give(home, out, write_labels(out.parent / "labels.csv", LABELS))
    verdicts = files.read_table(ScoresFolder.at(out).feedback("tiny").verdicts).set_index("model_version")
    assert verdicts["n_images"].to_dict() == {"1": 20, "2": 20}
    assert verdicts.loc["2", "verdict"] == "nothing promised"
    assert verdicts.loc["2", "reason"] == "its package is gone or damaged"
    assert verdicts["first_week"].to_dict() == {"1": "2026-W45", "2": "2026-W46"}


@pytest.mark.parametrize(("shift", "code"), [(1.5, 0), (-6.0, 1)])
def test_the_exit_code_says_if_the_champion_is_surely_below(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], shift: float, code: int
) -> None:
    truth = TRUTH * 20
    draw_scores(tmp_path / "scores", truth, shift=shift)
    labels = {f"monday/{k}.png": "PNEUMONIA" if of_class else "NORMAL" for k, of_class in enumerate(truth)}
    file = write_labels(tmp_path / "labels.csv", labels)
    places = [f"--models={home / 'models'}", f"--out={tmp_path / 'scores'}", f"--cache={tmp_path / 'cache'}"]
    with pytest.raises(SystemExit) as ended:
        app(["feedback", str(file), "--name=tiny", "--by=ada", "--json", *places])
    document = json.loads(capsys.readouterr().out)
    assert ended.value.code == code
    (verdict,) = document["verdicts"]
    assert (verdict["verdict"] == "surely below") == (code == 1)
    assert document["entered"]["n_new"] == len(truth)


def test_a_model_of_three_classes_is_judged_by_each_of_them(
    labelled_three: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(labelled_three / "scores", tmp_path / "scores")
    package = load_champion(labelled_three / "models", "three")
    *others, last = package.classes
    places = [f"--models={labelled_three / 'models'}", f"--out={tmp_path / 'scores'}", f"--cache={tmp_path / 'cache'}"]
    with pytest.raises(SystemExit) as ended:
        app(["feedback", str(labelled_three / "labels.csv"), "--name=three", "--by=ada", *places])
    said = capsys.readouterr().out
    verdicts = files.read_table(ScoresFolder.at(tmp_path / "scores").feedback("three").verdicts).set_index("class")
    assert verdicts.index.tolist() == [*package.classes, "macro"]
    bounds = {row["class"]: row["ci_low"] for row in package.facts["metrics_by_class"] if row["metric"] == "roc_auc"}
    assert verdicts["promised"].drop("macro").to_dict() == pytest.approx({k: min(v, 0.99) for k, v in bounds.items()})
    assert (verdicts.loc[others, "verdict"] != "surely below").all()
    is_below = verdicts.loc[last, "verdict"] == "surely below"
    assert ended.value.code == int(is_below)
    for name, row in verdicts.drop("macro").iterrows():
        assert f"  {name}: {row['verdict']}" in said
    assert f"version 1: {verdicts.loc['macro', 'verdict']} (of " in said


def _give_and_die(step: int, home: Path, out: Path, file: Path) -> None:
    with watching(at_step(step, out, lambda _: os.kill(os.getpid(), signal.SIGKILL))):
        give(home, out, file)


@pytest.mark.faults
def test_feedback_that_is_killed_at_any_step_has_one_set_of_rows_when_it_is_given_again(home: Path, out: Path) -> None:
    file = write_labels(out.parent / "labels.csv", LABELS)
    whole = out.parent / "whole"
    shutil.copytree(out, whole)
    give(home, whole, file)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["cxr.feedback.feedback", "cxr.serving.registry", "sklearn.linear_model"])
    for step in range(1, 100):
        place = out.parent / f"killed-{step}"
        shutil.copytree(out, place)
        process = context.Process(target=_give_and_die, args=(step, home, place, file))
        process.start()
        process.join(60)
        assert process.exitcode in (0, -signal.SIGKILL)
        assert len(ledger_of(place)) in (0, len(LABELS))
        give(home, place, file)
        assert_same_rows(ScoresFolder.at(place).feedback("tiny"), ScoresFolder.at(whole).feedback("tiny"))
        if process.exitcode == 0:
            break
    assert step > 5, "killed at fewer steps than there are tables"


def assert_same_rows(found: FeedbackFolder, expected: FeedbackFolder) -> None:
    """Assert that two folders hold the same labels and tables, but for the times, and nothing half-written."""
    assert [file.name for file in found.all_labels()] == [file.name for file in expected.all_labels()]
    pairs = [(read_ledger(found), read_ledger(expected))]
    for name in ("verdicts", "performance", "looks", "unmatched"):
        pairs.append((files.read_table(getattr(found, name)), files.read_table(getattr(expected, name))))
    for left, right in pairs:
        times = [name for name in left if name in ("given_at", "judged_at")]
        pd.testing.assert_frame_equal(left.drop(columns=times), right.drop(columns=times))
    assert not list(found.path.rglob(".*.tmp"))
