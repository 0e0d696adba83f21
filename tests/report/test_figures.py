import re
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from cxr.classes import Classes
from cxr.report import figures
from cxr.report.drawing import SVG, Figure

NAN = float("nan")


def texts(figure: Figure) -> list[str]:
    """Return what is written in a figure, in the order of drawing."""
    root = ElementTree.fromstring(figure.svg)  # noqa: S314 our own
    return ["".join(element.itertext()).strip() for element in root.iter(f"{{{SVG}}}text")]


def test_a_confusion_matrix_shows_the_counts_and_the_shares_of_each_true_class() -> None:
    counts = pd.DataFrame(
        [("sick", "sick", 1200), ("sick", "well", 300), ("well", "sick", 5), ("well", "well", 95)],
        columns=["label", "predicted", "n"],
    )
    figure = figures.confusion(counts, Classes(("well", "sick")), "at 0.5")
    shown = " ".join(texts(figure))
    for text in ("1,200", "80.0%", "300", "20.0%", "5.0%", "95.0%", "Predicted class", "True class"):
        assert text in shown
    assert figure.description.split("; ")[1] == "sick predicted as well: 300"


def test_a_class_that_was_never_predicted_has_a_column_all_the_same() -> None:
    counts = pd.DataFrame(
        [(label, predicted, n) for label, n in (("a", 4), ("b", 6)) for predicted, n in (("a", n), ("b", 0))],
        columns=["label", "predicted", "n"],
    )
    assert "0.0%" in " ".join(texts(figures.confusion(counts, Classes(("a", "b")), "at 0.5")))


def test_a_forest_describes_every_defined_value_and_draws_undefined_ones_nowhere() -> None:
    rows = pd.DataFrame(
        [
            ("fold 0", "sensitivity", 0.875, 0.8, 0.9),
            ("fold 1", "sensitivity", NAN, NAN, NAN),
            ("fold 1", "roc_auc", 0.5, NAN, NAN),
            ("fold 1", "accuracy", 0.1, 0.0, 0.2),
        ],
        columns=["level", "metric", "value", "ci_low", "ci_high"],
    )
    figure = figures.forest("folds", "Folds", rows, "level", ("sensitivity", "roc_auc"))
    assert figure.description == "fold 0: sensitivity 87.5%; fold 1: ROC-AUC 50.0%"
    assert {"fold 0", "fold 1", "sensitivity", "ROC-AUC"} <= set(texts(figure))
    assert "accuracy" not in texts(figure)
    assert {"87.5 [80.0, 90.0]", "50.0 [–]"} <= set(texts(figure)), "each estimate stands beside its mark"
    assert "fold 1 (n = 12)" in texts(figures.forest("folds", "Folds", rows.assign(n=12), "level", ("sensitivity",)))


def test_many_lines_keep_their_names_and_fit_on_a_sheet_of_paper() -> None:
    lines = [f"NORMAL, image size: {k} of 39, to 1,115,370 px" for k in range(39)]
    metrics = ("roc_auc", "sensitivity", "specificity")
    rows = pd.DataFrame([(line, metric) for line in lines for metric in metrics], columns=["level", "metric"])
    rows = rows.assign(value=0.5, ci_low=0.4, ci_high=0.6)
    figure = figures.forest("subgroups", "Subgroups", rows, "level", metrics)
    assert set(lines) <= set(texts(figure))
    width, height = map(float, re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', figure.svg)[0])
    assert height < width, "half of a sheet, where the width is that of the sheet"


@pytest.mark.parametrize("value", [0.0, 0.999, 1.0])
def test_the_axis_of_a_share_ends_at_its_bounds(value: float) -> None:
    row = {"level": "fold 0", "metric": "sensitivity", "value": value, "ci_low": value, "ci_high": value}
    figure = figures.forest("folds", "Folds", pd.DataFrame([row]), "level", ("sensitivity",))
    ticks = [float(text.replace("−", "-")) for text in texts(figure) if re.fullmatch(r"[−\d.]+", text)]
    assert ticks
    assert all(0 <= tick <= 100 for tick in ticks)


def curve(sensitivity: float) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "class": "sick",
            "fold": [NAN, NAN, NAN],
            "false_positive_rate": [0.0, 0.1, 1.0],
            "sensitivity": [0.0, sensitivity, 1.0],
            "ci_low": 0.0,
            "ci_high": 1.0,
        }
    )


POINTS = pd.DataFrame(
    [("half", "sensitivity", 0.9), ("half", "specificity", 0.8)], columns=["operating_point", "metric", "value"]
)


@pytest.mark.parametrize(("sensitivity", "n_axes"), [(0.95, 2), (0.5, 1)])
def test_the_corner_of_a_roc_curve_is_enlarged_only_if_the_curve_is_in_it(sensitivity: float, n_axes: int) -> None:
    figure = figures.roc(curve(sensitivity), POINTS, "ROC-AUC 91.0%")
    assert len(set(re.findall(r'id="roc-axes_(\d+)"', figure.svg))) == n_axes
    assert "ROC-AUC 91.0%" in figure.description
    assert "0.5" in texts(figure), "the operating point is in the legend"


def test_a_decision_curve_names_the_three_strategies() -> None:
    table = pd.DataFrame(
        {
            "threshold": [0.1, 0.5],
            "net_benefit": [0.4, 0.3],
            "net_benefit_of_all": [0.4, 0.0],
            "ci_low": [0.3, 0.2],
            "ci_high": [0.5, 0.4],
        }
    )
    written = texts(figures.net_benefit(table))
    assert {"model", "all predicted positive", "none predicted positive"} <= set(written)


def test_the_training_figure_tells_the_last_losses() -> None:
    table = pd.DataFrame({"fold": [0, 0, 1, 1], "epoch": [1, 2, 2, 1], "training_loss": [0.9, 0.25, 0.5, 0.8]})
    assert figures.training(table).description.endswith("after the last epoch 0.250 to 0.500.")


def test_robustness_describes_the_strongest_change_and_marks_the_unchanged_image() -> None:
    rows = [("unchanged", 0, NAN, "", 0.9)] + [("blur", k, 0.5 * k, "sigma, px", 0.9 - 0.1 * k) for k in (1, 2)]
    table = pd.DataFrame(rows, columns=["change", "strength", "amount", "unit", "value"])
    table = table.assign(metric="roc_auc", ci_low=table["value"] - 0.1, ci_high=table["value"] + 0.1)
    figure = figures.robustness(table, ["roc_auc"])
    assert figure.description == "blur at its strongest: ROC-AUC 70.0%"
    assert {"blur", "sigma, px", "–", "0.5", "1"} <= set(texts(figure))


def test_a_learning_curve_is_described_from_few_to_many_images() -> None:
    table = pd.DataFrame(
        {"n_images": [1000.0, 200.0], "metric": "roc_auc", "pooled": [0.95, 0.8], "ci_low": 0.7, "ci_high": 1.0}
    )
    assert figures.learning(table, ["roc_auc"]).description == "200 images: ROC-AUC 80.0%; 1,000 images: ROC-AUC 95.0%"


@pytest.mark.parametrize("draw", [figures.precision_recall, figures.calibration])
def test_a_class_name_with_markup_stays_text(draw) -> None:
    name = "<script>&"
    table = pd.DataFrame({"class": [name] * 2, "fold": NAN, "recall": [0.0, 1.0], "precision": [1.0, 0.5]})
    table = table.assign(ci_low=0.4, ci_high=1.0, stage="after", kind="bin", predicted=[0.1, 0.9], observed=[0.2, 0.8])
    figure = draw(table, "words")
    assert "<script>" not in figure.svg
    assert any(name in text for text in texts(figure))


def test_calibration_shows_a_curve_only_where_there_is_one() -> None:
    points = pd.DataFrame({"class": "sick", "stage": "after", "kind": "bin", "predicted": [0.1, 0.9]})
    points = points.assign(observed=[0.2, 0.8], ci_low=[0.1, 0.7], ci_high=[0.3, 0.9])
    without = figures.calibration(points, "words")
    x = np.linspace(0.1, 0.9, 5)
    curve = pd.DataFrame({"predicted": x, "observed": x, "ci_low": x - 0.05, "ci_high": x + 0.05})
    both = figures.calibration(
        pd.concat([points, curve.assign(**{"class": "sick"}, stage="after", kind="smooth")]), "words"
    )
    assert "sick, after" in texts(without)
    assert both.svg.count("fill-opacity: 0.15") == without.svg.count("fill-opacity: 0.15") + 1, "the band"


def test_each_stage_of_the_calibration_of_several_classes_has_a_panel() -> None:
    points = pd.DataFrame({"class": ["a", "b"] * 2, "stage": ["before"] * 2 + ["after"] * 2, "kind": "bin"})
    points = points.assign(predicted=0.4, observed=0.5, ci_low=0.3, ci_high=0.7)
    shown = texts(figures.calibration(points, "words"))
    assert [shown.count(text) for text in ("before calibration", "after calibration", "a", "b")] == [1, 1, 2, 2]


def test_scores_of_one_class_do_not_repeat_its_name() -> None:
    table = pd.DataFrame({"class": "sick", "label": ["sick", "sick", "well", "well"], "low": [0.0, 0.5] * 2})
    table = table.assign(high=[0.5, 1.0] * 2, share=[0.1, 0.9, 0.8, 0.2])
    assert {"sick images", "well images"} <= set(texts(figures.scores(table)))
    assert "threshold, Youden: 0.4" in texts(figures.scores(table, threshold=("Youden", 0.4)))
    both = pd.concat([table, table.assign(**{"class": "well"})])
    assert texts(figures.scores(both)).count("sick images") == 1
    first, second = (
        figures.scores(both).svg,
        figures.scores(both.assign(share=both["share"].where(both["class"] == both["label"], 0.5))).svg,
    )
    assert first == second, "of several classes only the probability of the true class is drawn"
    assert figures.scores(both).table.equals(both), "the file has all of them"
