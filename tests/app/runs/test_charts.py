import pandas as pd
import pytest

from app.runs import charts
from cxr.classes import Classes


def test_a_curve_has_a_line_per_fold_and_a_pooled_one_with_a_band() -> None:
    table = pd.DataFrame(
        {
            "class": "PNEUMONIA",
            "fold": pd.array([0, 0, 1, 1, None, None], dtype="Int32"),
            "false_positive_rate": [0.0, 1.0] * 3,
            "sensitivity": [0.5, 1.0, 0.7, 1.0, 0.6, 1.0],
            "ci_low": [None] * 4 + [0.4, 0.9],
            "ci_high": [None] * 4 + [0.8, 1.0],
        }
    )
    figure = charts.curve(table, "false_positive_rate", "sensitivity", diagonal=True)
    diagonal, first, second, band, pooled = figure.data
    assert list(diagonal.x) == [0, 1]
    assert list(first.y) == [0.5, 1.0]
    assert list(second.y) == [0.7, 1.0]
    assert list(band.y) == [0.8, 1.0, 0.9, 0.4]
    assert (pooled.name, list(pooled.y)) == ("PNEUMONIA", [0.6, 1.0])
    assert figure.layout.xaxis.title.text == "False positive rate (1 − specificity)"


def test_the_confusion_matrix_has_true_classes_as_rows_and_shares_of_them() -> None:
    table = pd.DataFrame({"label": list("aabb"), "predicted": list("abab"), "n": [3, 1, 0, 4]})
    figure = charts.confusion(table, Classes(("a", "b")))
    (cells,) = figure.data
    assert cells.z.tolist() == [[0.75, 0.25], [0, 1]]
    assert [list(row) for row in cells.text] == [["3<br>75.0%", "1<br>25.0%"], ["0<br>0.0%", "4<br>100.0%"]]
    assert (figure.layout.xaxis.title.text, figure.layout.yaxis.title.text) == ("Predicted class", "True class")


def test_a_forest_has_a_line_per_level_and_a_symbol_per_metric() -> None:
    table = pd.DataFrame(
        {
            "level": ["fold 0", "fold 1"] * 2,
            "metric": ["sensitivity"] * 2 + ["specificity"] * 2,
            "value": [0.9, 0.8, 0.7, 0.6],
            "ci_low": [0.8] * 4,
            "ci_high": [1.0] * 4,
        }
    )
    figure = charts.forest(table, "level", ("sensitivity", "specificity"))
    sensitivity, specificity = figure.data
    assert list(sensitivity.x) == [90, 80]
    assert list(sensitivity.y) == pytest.approx([-0.1, 0.9])
    assert list(specificity.y) == pytest.approx([0.1, 1.1])
    assert [(name.text, name.y) for name in figure.layout.annotations] == [("fold 0", -0.25), ("fold 1", 0.75)]


def test_the_other_charts_show_the_columns_of_their_tables() -> None:
    bins = pd.DataFrame({"label": ["a", "b"], "low": [0.0, 0.5], "high": [0.5, 1.0], "share": [1.0, 0.5], "n": [2, 1]})
    first, second = charts.histogram(bins, "PNEUMONIA", 0.3).data
    assert (list(first.x), list(second.y)) == ([0.25], [0.5])
    epochs = pd.DataFrame({"fold": [0, 0, 1], "epoch": [1, 2, 1], "training_loss": [0.7, 0.5, 0.6]})
    assert [list(line.y) for line in charts.training(epochs).data] == [[0.7, 0.5], [0.6]]
    shares = pd.DataFrame(
        {
            "class": ["a"],
            "stage": ["after"],
            "predicted": [0.3],
            "observed": [0.4],
            "ci_low": [0.2],
            "ci_high": [0.5],
            "n": [9],
        }
    )
    _, dots = charts.calibration(shares).data
    assert (dots.name, list(dots.x), list(dots.y)) == ("a, after", [0.3], [0.4])
