import re

import numpy as np
import pandas as pd
import pytest

from cxr.report.drawing import Figure
from cxr.report.histograms import Mark, histogram, shares_of


def texts(figure: Figure) -> set[str]:
    return set(re.findall(r">([^<>]+)</text>", figure.svg))


def test_shares_are_of_each_series_by_itself_and_an_empty_one_has_none() -> None:
    edges = [0.0, 10.0, 20.0, 40.0]
    table = shares_of({"sick": [1, 3, 0], "well": [0, 0, 0]}, edges)
    expected = pd.DataFrame({"series": ["sick"] * 3 + ["well"] * 3, "low": edges[:-1] * 2, "high": edges[1:] * 2})
    pd.testing.assert_frame_equal(table, expected.assign(share=[0.25, 0.75, 0, 0, 0, 0]))


def test_shares_are_numpys_density_times_the_width_of_the_bins() -> None:
    values = np.random.default_rng(0).normal(size=200)
    counts, edges = np.histogram(values, bins=7)
    density = np.histogram(values, bins=edges, density=True)[0]
    assert shares_of({"all": counts}, edges)["share"].to_numpy() == pytest.approx(density * np.diff(edges))


def test_a_histogram_has_axes_with_units_and_says_where_the_limit_is() -> None:
    table = shares_of({"sick": [1, 3], "well": [2, 2]}, [100.0, 200.0, 300.0])
    drawn = histogram("h", "Width", "words", table, axis="Width, px", share="Share", mark=Mark("least", 128))
    assert {"Width, px", "Share", "sick", "well", "least: 128"} <= texts(drawn)
    assert "least: 128" not in texts(histogram("h", "Width", "words", table, axis="Width, px", share="Share"))
