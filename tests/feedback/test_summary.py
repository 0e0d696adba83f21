"""What was last said of a model, for those who show it."""

from pathlib import Path

import pandas as pd

from cxr.feedback.summary import by_week, performance_of, verdict_of, verdicts_by_class, verdicts_of
from cxr.storage import files
from cxr.storage.scores_folder import FeedbackFolder


def test_weeks_come_latest_first_after_that_of_all_weeks() -> None:
    common = {"metric": "roc_auc", "ci_low": 0.1, "ci_high": 0.9, "n_positive": 1, "n_patients": 2}
    weeks = [("2026-W52", 0.5), (None, 0.6), ("2027-W01", 0.7)]
    table = pd.DataFrame([{"week": week, "value": value, "n_images": 3} | common for week, value in weeks])
    found = by_week(table.astype({"week": "str"}))
    assert [(row["week"], row["roc_auc"]) for row in found] == [
        (None, (0.6, 0.1, 0.9)),
        ("2027-W01", (0.7, 0.1, 0.9)),
        ("2026-W52", (0.5, 0.1, 0.9)),
    ]
    assert [row["n_images"] for row in found] == [3, 3, 3]


def test_nothing_is_said_before_labels_come(tmp_path: Path) -> None:
    assert verdicts_of(FeedbackFolder(tmp_path)) == []
    assert verdict_of(FeedbackFolder(tmp_path), "1") is None


def test_of_more_than_two_classes_the_verdict_is_that_on_all_together(tmp_path: Path) -> None:
    folder = FeedbackFolder(tmp_path)
    rows = [("1", "A", "as promised"), ("1", "B", "surely below"), ("1", "macro", "surely below")]
    files.write_table(folder.verdicts, pd.DataFrame(rows, columns=["model_version", "class", "verdict"]))
    assert [row["class"] for row in verdicts_of(folder)] == ["macro"]
    assert [row["class"] for row in verdicts_by_class(folder, "1")] == ["A", "B"]


def test_tables_that_were_written_without_the_column_of_the_class_are_of_two(tmp_path: Path) -> None:
    folder = FeedbackFolder(tmp_path)
    table = pd.DataFrame({"model_version": ["1"], "verdict": ["as promised"]})
    files.write_table(folder.verdicts, table)
    files.write_table(folder.performance, table.assign(week="2026-W45"))
    assert verdict_of(folder, "1") == {"model_version": "1", "verdict": "as promised"}
    assert verdicts_by_class(folder, "1") == []
    assert len(performance_of(folder, "1")) == 1
