"""Labels are entered once, and corrections keep what was said before."""

from pathlib import Path

import pandas as pd

from cxr.feedback.labels import Given
from cxr.feedback.ledger import current, digest, enter, read_ledger
from cxr.storage.scores_folder import FeedbackFolder


def given(labels: dict[str, str], patients: dict[str, str] | None = None) -> Given:
    rows = pd.DataFrame({"image_id": list(labels), "label": list(labels.values())}).astype("str")
    patient = rows["image_id"].map(patients or {}).astype("str")
    return Given(rows.assign(patient_id=patient), [], "labels.csv", "0" * 64)


def test_a_correction_is_a_later_entry_and_the_former_stays(tmp_path: Path) -> None:
    folder = FeedbackFolder(tmp_path)
    assert enter(folder, given({"a": "X", "b": "Y"}), "ada") == (2, 0)
    assert enter(folder, given({"b": "X", "c": "X"}), "bob") == (1, 1)
    ledger = read_ledger(folder)
    assert ledger[["entry", "image_id", "label", "given_by"]].to_numpy().tolist() == [
        [1, "a", "X", "ada"],
        [1, "b", "Y", "ada"],
        [2, "b", "X", "bob"],
        [2, "c", "X", "bob"],
    ]
    now = current(ledger).set_index("image_id")
    assert now["label"].to_dict() == {"a": "X", "b": "X", "c": "X"}
    assert now["first_entry"].to_dict() == {"a": 1, "b": 1, "c": 2}


def test_what_was_said_before_is_not_entered_again(tmp_path: Path) -> None:
    folder = FeedbackFolder(tmp_path)
    enter(folder, given({"a": "X"}), "ada")
    assert enter(folder, given({"a": "X"}), "bob") == (0, 0)
    assert len(folder.all_labels()) == 1
    assert len(read_ledger(folder)) == 1


def test_the_digest_is_of_all_that_was_entered_and_changes_with_nothing_else(tmp_path: Path) -> None:
    folder = FeedbackFolder(tmp_path)
    enter(folder, given({"a": "X"}), "ada")
    first = digest(folder)
    enter(folder, given({"a": "X"}), "bob")
    assert digest(folder) == first
    enter(folder, given({"b": "X"}), "ada")
    assert digest(folder) != first


def test_a_patient_who_is_named_later_is_a_correction_and_one_who_is_not_named_again_stays(tmp_path: Path) -> None:
    folder = FeedbackFolder(tmp_path)
    enter(folder, given({"a": "X"}), "ada")
    assert enter(folder, given({"a": "X"}, {"a": "table-7"}), "ada") == (0, 1)
    assert enter(folder, given({"a": "X"}), "ada") == (0, 0)
    assert enter(folder, given({"a": "Y"}), "ada") == (0, 1)
    assert read_ledger(folder)["patient_id"].fillna("").tolist() == ["", "table-7", "table-7"]


def test_an_entry_never_takes_the_number_of_another(tmp_path: Path) -> None:
    folder = FeedbackFolder(tmp_path)
    for name in "abc":
        enter(folder, given({name: "X"}), "ada")
    folder.labels(2).unlink()
    enter(folder, given({"d": "X"}), "ada")
    assert [file.name for file in folder.all_labels()] == [f"part-00000{number}.parquet" for number in (1, 3, 4)]
