import numpy as np
import pandas as pd
import pytest

from cxr.evaluation.drift_reference import drift_reference_table, measure_images
from cxr.metrics.drift import ACQUISITION

MANIFEST = pd.DataFrame(
    {
        "path": ["c.png", "a.png", "b.png"],
        "width": [30, 10, 20],
        "height": [300, 100, 200],
        "chroma": [0.3, 0.1, 0.2],
        "mean": [-1.0, -1.0, -1.0],  # at 256 px: another scale
    }
)
IMAGES = pd.DataFrame({"path": ["a.png", "b.png"]})


def framed(inner: int, border: int, size: int) -> np.ndarray:
    """A square of one grey level with another one all around, a twentieth of its side wide."""
    square = np.full((size, size), border, np.uint8)
    edge = size // 20
    square[edge:-edge, edge:-edge] = inner
    return square


def test_images_are_measured_on_their_squares_and_sized_by_the_manifest() -> None:
    squares = np.stack([framed(100, 255, 40), framed(3, 7, 40)])
    table = measure_images(IMAGES, MANIFEST, squares)
    assert table[["width", "height"]].to_numpy().tolist() == [[10, 100], [20, 200]]
    assert table["border"].tolist() == [255, 7]
    inner = 36**2 / 40**2
    assert table["mean"].tolist() == pytest.approx([100 * inner + 255 * (1 - inner), 3 * inner + 7 * (1 - inner)])
    assert table["bright_share"].tolist() == pytest.approx([1 - inner, 0])
    assert table["dark_share"].tolist() == pytest.approx([0, inner])
    pd.testing.assert_frame_equal(measure_images(IMAGES, MANIFEST, iter(squares)), table)


def test_images_that_are_gone_keep_their_size_alone() -> None:
    table = measure_images(IMAGES, MANIFEST, None)
    assert table["width"].tolist() == [10, 20]
    assert table[["mean", "contrast", "border", "dark_share", "bright_share"]].isna().all(axis=None)
    values = drift_reference_table(table).set_index(["measure", "quantile"])["value"]
    assert values["height", 0.5] == 150
    assert np.isnan(values["mean", 0.5])


def test_the_reference_holds_three_quantiles_of_each_acquisition_measure() -> None:
    measures = pd.DataFrame({name: np.arange(101.0) * k for k, name in enumerate(ACQUISITION, 1)})
    table = drift_reference_table(measures)
    assert table["measure"].unique().tolist() == ACQUISITION
    for k, name in enumerate(ACQUISITION, 1):
        assert table.loc[table["measure"] == name, "value"].tolist() == pytest.approx([5 * k, 50 * k, 95 * k])
