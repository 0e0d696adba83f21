"""Plotly figures of a run's tables."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from app.charts import GREY, colours, error_bars, escape, new_figure
from cxr.classes import Classes
from cxr.wording import display_name

DASHES = ("solid", "dash", "dot", "dashdot")
SYMBOLS = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "x")
ROW_PX = 52
"""Height of a line with its name above."""
HIDDEN: dict[str, Any] = {"showlegend": False, "hoverinfo": "skip"}


def curve(table: pd.DataFrame, x: str, y: str, *, diagonal: bool = False) -> go.Figure:
    """Return a ROC or precision-recall curve: pooled with its band, and thin lines for the folds.

    Args:
        table: of `analyses.curve_tables`.
        x: column on the x axis.
        y: column on the y axis.
        diagonal: draw the line of chance.
    """
    figure = new_figure(_axis(x), _axis(y))
    if diagonal:
        _add_diagonal(figure)
    for k, (name, rows) in enumerate(table.groupby("class", sort=False)):
        colour = colours()[k % 7]
        for _, fold in rows.dropna(subset="fold").groupby("fold"):
            line = {"color": colour, "width": 0.6}
            figure.add_scatter(x=fold[x], y=fold[y], mode="lines", line=line, opacity=0.5, **HIDDEN)
        pooled = rows[rows["fold"].isna()]
        _add_band(figure, pooled, x, colour)
        figure.add_scatter(
            x=pooled[x],
            y=pooled[y],
            mode="lines",
            name=escape(str(name)),
            line={"color": colour, "dash": DASHES[k % 4], "width": 2},
            customdata=pooled[["ci_low", "ci_high"]],
            hovertemplate=f"{display_name(x)} %{{x:.3f}}<br>{display_name(y)} %{{y:.3f}}"
            " [%{customdata[0]:.3f}, %{customdata[1]:.3f}]<extra></extra>",
        )
    figure.update_xaxes(range=[-0.01, 1.01])
    figure.update_yaxes(range=[-0.01, 1.02])
    return figure


def _axis(name: str) -> str:
    return {"false_positive_rate": "False positive rate (1 − specificity)"}.get(name, display_name(name).capitalize())


def _add_diagonal(figure: go.Figure) -> None:
    line = {"color": GREY, "dash": "dot", "width": 1}
    figure.add_scatter(x=[0, 1], y=[0, 1], mode="lines", line=line, **HIDDEN)


def _add_band(figure: go.Figure, pooled: pd.DataFrame, x: str, colour: str) -> None:
    red, green, blue = (int(colour[k : k + 2], 16) for k in (1, 3, 5))
    figure.add_scatter(
        x=pd.concat([pooled[x], pooled[x][::-1]]),
        y=pd.concat([pooled["ci_high"], pooled["ci_low"][::-1]]),
        fill="toself",
        line={"width": 0},
        fillcolor=f"rgba({red},{green},{blue},0.2)",
        **HIDDEN,
    )


def calibration(table: pd.DataFrame) -> go.Figure:
    """Return observed shares against predicted probabilities, before and after calibration.

    Args:
        table: of `analyses.reliability_table`.
    """
    figure = new_figure("Predicted probability", "Observed share")
    _add_diagonal(figure)
    for k, ((name, stage), rows) in enumerate(table.groupby(["class", "stage"], sort=False)):
        figure.add_scatter(
            x=rows["predicted"],
            y=rows["observed"],
            mode="markers+lines",
            name=f"{escape(str(name))}, {stage}",
            line={"color": colours()[k % 7], "dash": DASHES[k % 4], "width": 1.5},
            marker={"symbol": SYMBOLS[k % 7], "size": 8},
            error_y=error_bars(rows, "observed"),
            customdata=rows["n"],
            hovertemplate="predicted %{x:.3f}<br>observed %{y:.3f}<br>%{customdata} images<extra></extra>",
        )
    return figure


def confusion(table: pd.DataFrame, classes: Classes) -> go.Figure:
    """Return the confusion matrix: counts, coloured by their share of the true class."""
    counts = table.pivot_table(index="label", columns="predicted", values="n").reindex(index=classes, columns=classes)
    shares = counts.div(counts.sum(axis=1), axis=0).fillna(0)
    cells = [
        [f"{n:,.0f}<br>{share:.1%}" for n, share in zip(*rows, strict=True)]
        for rows in zip(counts.to_numpy(), shares.to_numpy(), strict=True)
    ]
    names = [escape(name) for name in classes]
    figure = new_figure("Predicted class", "True class", height=340)
    figure.add_heatmap(
        z=shares,
        x=names,
        y=names,
        text=cells,
        texttemplate="%{text}",
        colorscale="Blues",
        zmin=0,
        zmax=1,
        showscale=False,
        textfont={"size": 16},
        xgap=2,
        ygap=2,
        hovertemplate="%{y} predicted as %{x}: %{text}<extra></extra>",
    )
    figure.update_xaxes(fixedrange=True)
    figure.update_yaxes(autorange="reversed", fixedrange=True)
    return figure


def training(table: pd.DataFrame) -> go.Figure:
    """Return the training loss by epoch, a line for each fold."""
    figure = new_figure("Epoch", "Training loss")
    for k, (fold, rows) in enumerate(table.groupby("fold")):
        figure.add_scatter(
            x=rows["epoch"],
            y=rows["training_loss"],
            mode="markers+lines",
            name=f"fold {fold}",
            line={"color": colours()[k % 7], "dash": DASHES[k % 4]},
            marker={"symbol": SYMBOLS[k % 7]},
        )
    figure.update_yaxes(rangemode="tozero")
    return figure


def forest(table: pd.DataFrame, level: str, metrics: Sequence[str]) -> go.Figure:
    """Return values with intervals in percent, a line for each level, a symbol for each metric.

    The name of a level stands above its line: beside it, long names leave no room on a telephone.

    Args:
        table: with the columns metric, value, ci_low, ci_high, and that of the levels.
        level: the column of the levels.
        metrics: which to show.
    """
    levels = table[level].unique().tolist()
    names = [escape(str(name)) for name in levels]
    figure = new_figure("%", "", height=110 + ROW_PX * len(levels))
    for k, metric in enumerate(metrics):
        rows = table[table["metric"] == metric]
        offset = 0.2 * (k - (len(metrics) - 1) / 2)
        lines = [levels.index(name) for name in rows[level]]
        figure.add_scatter(
            x=100 * rows["value"],
            y=[line + offset for line in lines],
            mode="markers",
            name=display_name(metric),
            marker={"color": colours()[k % 7], "symbol": SYMBOLS[k % 7], "size": 8},
            error_x=error_bars(rows, "value", 100),
            text=[names[line] for line in lines],
            hovertemplate=f"%{{text}}<br>{display_name(metric)} %{{x:.1f}}%<extra></extra>",
        )
    for line, name in enumerate(names):
        above = {"y": line - 0.25, "yanchor": "bottom", "x": 0, "xref": "paper", "xanchor": "left"}
        figure.add_annotation(text=name, showarrow=False, **above)
    figure.update_yaxes(
        tickvals=list(range(len(levels))), showticklabels=False, range=[len(levels) - 0.5, -0.75], zeroline=False
    )
    return figure


def histogram(table: pd.DataFrame, name: str, threshold: float | None = None) -> go.Figure:
    """Return calibrated probabilities by true class, as shares of the class, with a threshold.

    Args:
        table: of `analyses.score_table`, for one class.
        name: the class.
        threshold: 0 to 1; None for no line.
    """
    figure = new_figure(
        f"Calibrated probability of {escape(name)}", "Share of the true class", height=300, barmode="overlay"
    )
    for k, (label, rows) in enumerate(table.groupby("label", sort=False)):
        figure.add_bar(
            x=(rows["low"] + rows["high"]) / 2,
            y=rows["share"],
            width=0.05,
            name=f"{escape(str(label))} images",
            marker={"color": colours()[k % 7], "pattern": {"shape": ("", "/", ".", "x")[k % 4]}},
            opacity=0.6,
            customdata=rows["n"],
            hovertemplate="%{x:.2f}: %{customdata} images<extra></extra>",
        )
    if threshold is not None:
        figure.add_vline(x=threshold, line={"color": GREY, "dash": "dash", "width": 2})
    figure.update_xaxes(range=[0, 1], fixedrange=True)
    figure.update_yaxes(fixedrange=True)
    return figure
