"""Plotly figures: what they share, and those of the views Classify and Scoring runs. Colours are the reports'."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from cxr.report.markup import COLOURS, ON_DARK
from cxr.wording import visible

GREY = "#888888"
"""Readable on a light and on a dark background."""
NO_BAR: dict[str, Any] = {"displayModeBar": False}


def colours() -> tuple[str, ...]:
    """Return the colours of series, as the reports have them in the visitor's theme."""
    return tuple(ON_DARK.get(colour, colour) for colour in COLOURS) if st.context.theme.type == "dark" else COLOURS


def new_figure(x: str, y: str, *, height: int = 380, **layout: Any) -> go.Figure:
    """Return an empty figure with titles of its axes and the legend above.

    Args:
        x: title of the x axis.
        y: title of the y axis.
        height: in pixels.
        layout: further settings of Plotly's layout.
    """
    figure = go.Figure()
    legend = {"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0}
    figure.update_layout(height=height, margin={"l": 10, "r": 10, "t": 30, "b": 10}, legend=legend, **layout)
    figure.update_xaxes(title=x)
    figure.update_yaxes(title=y)
    return figure


def escape(name: str) -> str:
    """Return a name as Plotly shows it letter by letter: Plotly takes some HTML for formatting."""
    return visible(name).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def error_bars(rows: pd.DataFrame, value: str, scale: float = 1) -> dict[str, Any]:
    """Return Plotly's error bars from the columns ci_low and ci_high around a column, times `scale`."""
    above = (rows["ci_high"] - rows[value]).clip(0)
    below = (rows[value] - rows["ci_low"]).clip(0)
    return {"array": scale * above, "arrayminus": scale * below, "thickness": 1, "width": 3}


def gauge(name: str, probability: float, by_fold: Sequence[float], threshold: float | None) -> go.Figure:
    """Return an image's probability, that of each fold, and the threshold, on one line from 0 to 100%.

    Args:
        name: the class.
        probability: of the class, the mean over folds, 0 to 1.
        by_fold: the probability in each fold.
        threshold: 0 to 1; None where there is none.
    """
    figure = new_figure(f"Probability of {escape(name)}, %", "", height=150)
    folds = {"color": colours()[0], "size": 11, "opacity": 0.55}
    _add_marks(figure, "each fold", {f"fold {k}": value for k, value in enumerate(by_fold)}, folds)
    mean = {"color": colours()[1], "size": 17, "symbol": "diamond"}
    _add_marks(figure, "all folds", {"all folds": probability}, mean)
    if threshold is not None:
        figure.add_scatter(
            x=[100 * threshold] * 2,
            y=[-1, 1],
            mode="lines",
            line={"color": GREY, "dash": "dash"},
            name="threshold",
            text=[f"threshold: {threshold:.1%}"] * 2,
            hoverinfo="text",
        )
    figure.update_xaxes(range=[-2, 102], zeroline=False, fixedrange=True)
    figure.update_yaxes(visible=False, range=[-1.2, 1.2], fixedrange=True)
    return figure


def _add_marks(figure: go.Figure, name: str, values: dict[str, float], marker: dict[str, Any]) -> None:
    figure.add_scatter(
        x=[100 * value for value in values.values()],
        y=[0] * len(values),
        mode="markers",
        marker=marker,
        name=name,
        text=[f"{label}: {value:.1%}" for label, value in values.items()],
        hoverinfo="text",
        cliponaxis=False,
    )


def by_week(
    title: str, weeks: Sequence[Mapping[str, Any]], metric: str, line: float | None, line_name: str
) -> go.Figure:
    """Return a metric by week with its intervals.

    Args:
        title: of the y axis.
        weeks: as `cxr.feedback.summary.by_week` returns them, oldest first, without that of all weeks.
        metric: of the weeks, shown times 100.
        line: where a line is drawn, before it is multiplied; None for none.
        line_name: what the line stands for.
    """
    rows = pd.DataFrame([row[metric] for row in weeks], columns=["value", "ci_low", "ci_high"])
    figure = new_figure("Week of scoring", title, height=260)
    figure.add_scatter(
        x=[row["week"] for row in weeks],
        y=100 * rows["value"],
        error_y=error_bars(rows, "value", 100),
        mode="markers+lines",
        marker={"color": colours()[0], "size": 8},
        text=[f"{row['n_images']:,} images" for row in weeks],
        hovertemplate="%{x}: %{y:.1f}, %{text}<extra></extra>",
    )
    if line is not None:
        dashes = {"color": GREY, "dash": "dash"}
        figure.add_hline(y=100 * line, line=dashes, annotation_text=line_name, annotation_position="top left")
    figure.update_xaxes(type="category")
    return figure


def batch_histogram(counts: Sequence[int], name: str | None = None, threshold: float | None = None) -> go.Figure:
    """Return how many images of a batch have which probability, with the threshold.

    Args:
        counts: images in bins of equal width from 0 to 1.
        name: the class of the probability; None where it is the highest of several.
        threshold: 0 to 1; None for no line.
    """
    figure = new_figure(
        "Highest probability" if name is None else f"Probability of {escape(name)}", "Images", height=240
    )
    width = 1 / max(1, len(counts))
    figure.add_bar(
        x=[(k + 0.5) * width for k in range(len(counts))],
        y=list(counts),
        width=width * 0.95,
        marker={"color": colours()[0]},
        hovertemplate="%{x:.3f}: %{y} images<extra></extra>",
    )
    if threshold is not None:
        label = f"threshold: {threshold:.1%}"
        line = {"color": GREY, "dash": "dash", "width": 2}
        figure.add_vline(x=threshold, line=line, annotation_text=label, annotation_position="top left")
    figure.update_xaxes(range=[0, 1])
    return figure
