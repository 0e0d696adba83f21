"""Histograms of several series over the same bins, with axes and units; a limit or threshold is marked."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from cxr.report.drawing import INK, Figure, draw, legible
from cxr.report.markup import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DASHES = ("-", "--", "-.", ":")


class Mark(NamedTuple):
    """A value on the horizontal axis that decides something."""

    name: str
    value: float


def shares_of(counts: Mapping[str, ArrayLike], edges: ArrayLike) -> pd.DataFrame:
    """Return the table of a histogram: columns series, low, high and share, of the series' images; 0 where it has none.

    Args:
        counts: of each series, shape (n_bins,).
        edges: of the bins, shape (n_bins + 1,).
    """
    bounds = np.asarray(edges, dtype=float)
    parts = []
    for series, of_series in counts.items():
        n = np.asarray(of_series, dtype=float)
        share = n / max(n.sum(), 1)
        parts.append(pd.DataFrame({"series": series, "low": bounds[:-1], "high": bounds[1:], "share": share}))
    return pd.concat(parts, ignore_index=True)


def histogram(
    name: str,
    caption: str,
    description: str,
    table: pd.DataFrame,
    *,
    axis: str,
    share: str,
    mark: Mark | None = None,
    width: float = 4.6,
    height: float = 3.6,
) -> Figure:
    """Return the histograms of a table.

    Args:
        name: of the figure.
        caption: of the figure.
        description: of the figure.
        table: columns series, low, high and share; the bins of a series follow one another.
        axis: what is measured, and its unit.
        share: what the heights are a share of.
        mark: to be shown as a dotted line; None for none.
        width: in inches.
        height: in inches.
    """

    from matplotlib.ticker import MaxNLocator

    def plot(axes: "Axes", bins: pd.DataFrame) -> None:
        for k, (series, rows) in enumerate(bins.groupby("series", sort=False)):
            x, y = ([*rows[first], rows[last].iloc[-1]] for first, last in (("low", "high"), ("share", "share")))
            dash = DASHES[k % len(DASHES)]
            axes.step(x, y, dash, where="post", color=COLOURS[k % len(COLOURS)], label=legible(series))
        if mark:
            axes.axvline(mark.value, color=INK, linestyle=":", linewidth=1, label=f"{mark.name}: {mark.value:.3g}")
        axes.set(xlabel=axis, ylabel=share, ylim=(0, None))
        axes.margins(x=0.01)
        axes.xaxis.set_major_locator(MaxNLocator(6))  # numbers of five digits would touch each other
        axes.legend()

    return draw(name, caption, description, table, plot, width=width, height=height)
