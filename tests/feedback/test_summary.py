"""What was last said of a model, for those who show it."""

from pathlib import Path

import pandas as pd

from cxr.feedback.summary import by_week, verdict_of, verdicts_of
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
