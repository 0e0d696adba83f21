import pandas as pd
import pytest

from app import charts


def test_the_gauge_shows_folds_mean_and_threshold_in_percent() -> None:
    figure = charts.gauge("<b>", 0.5, [0.4, 0.6], 0.55)
    folds, mean, threshold = figure.data
    assert list(folds.x) == [40, 60]
    assert list(mean.x) == [50]
    assert threshold.x == pytest.approx((55, 55))
    assert figure.layout.xaxis.title.text == "Probability of &lt;b&gt;, %"
    assert len(charts.gauge("a", 0.5, [0.4], None).data) == 2


def test_the_histogram_of_a_batch_has_bins_from_0_to_1() -> None:
    (bars,) = charts.batch_histogram([3, 0, 1, 2]).data
    assert list(bars.x) == [0.125, 0.375, 0.625, 0.875]
    assert list(bars.y) == [3, 0, 1, 2]


def test_a_week_has_its_value_and_the_line_says_what_it_stands_for() -> None:
    week = {"week": "2026-W48", "n_images": 40, "roc_auc": (0.9, 0.8, 1.0)}
    figure = charts.by_week("ROC-AUC, %", [week], "roc_auc", 0.85, "promised at least")
    (dots,) = figure.data
    assert (list(dots.x), list(dots.y)) == (["2026-W48"], [90])
    (line,), (name,) = figure.layout.shapes, figure.layout.annotations
    assert (line.y0, name.text) == (85, "promised at least")
    assert not charts.by_week("ROC-AUC, %", [week], "roc_auc", None, "promised at least").layout.annotations


def test_error_bars_reach_from_the_value_to_its_bounds() -> None:
    rows = pd.DataFrame({"value": [0.5], "ci_low": [0.4], "ci_high": [0.75]})
    bars = charts.error_bars(rows, "value", 100)
    assert list(bars["array"]) == [25]
    assert list(bars["arrayminus"]) == pytest.approx([10])
