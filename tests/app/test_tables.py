import pandas as pd
import pytest

from app import tables


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("roc_auc", "ROC-AUC, %"),
        ("begun_at", "Begun (UTC)"),
        ("suggested_label", "Suggested label"),
        ("probability_PNEUMONIA", "Probability: PNEUMONIA"),
        ("predicted_label", "Predicted"),
        ("predicted_first", "Predicted: first"),
        ("called_a\nb", "Predicted: a\\nb"),
    ],
)
def test_a_column_is_headed_in_words(name: str, label: str) -> None:
    assert tables.headings([name])[name]["label"] == label


def test_times_are_times_and_reasons_are_words() -> None:
    table = pd.DataFrame({"begun_at": ["2026-11-26T02:00:07+00:00"], "reason": ["colour_photograph"]})
    shown = tables.values_in_words(table)
    assert shown["begun_at"].tolist() == [pd.Timestamp("2026-11-26T02:00:07", tz="UTC")]
    assert shown["reason"].tolist() == ["colour photograph"]


def test_what_is_missing_stays_missing() -> None:
    table = pd.DataFrame({"reason": ["blank", None], "unlike_training": pd.array([True, None], dtype="boolean")})
    shown = tables.values_in_words(table)
    assert shown["reason"].isna().tolist() == [False, True]
    assert shown["unlike_training"].isna().tolist() == [False, True]
