"""Plotly figures of the core's tables: what is worth hovering over. Colours are those of the reports."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from cxr.classes import Classes
from cxr.report.markup import COLOURS
from cxr.report.wording import said

GREY = "#888888"
"""Reads on light and on dark."""
DASHES = ("solid", "dash", "dot", "dashdot")
SYMBOLS = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "x")
NO_BAR: dict[str, Any] = {"displayModeBar": False}


def _figure(x: str, y: str, *, height: int = 380, **layout: Any) -> go.Figure:
    figure = go.Figure()
    legend = {"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0}
    figure.update_layout(height=height, margin={"l": 10, "r": 10, "t": 30, "b": 10}, legend=legend, **layout)
    figure.update_xaxes(title=x)
    figure.update_yaxes(title=y)
    return figure


def _faded(colour: str, opacity: float) -> str:
    red, green, blue = (int(colour[k : k + 2], 16) for k in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"


def gauge(name: str, probability: float, by_fold: Sequence[float], threshold: float | None) -> go.Figure:
    """Return an image's probability, each fold's, and the threshold, on one line from 0 to 100 %."""
    figure = _figure(f"probability of {_text(name)}, %", "", height=150)
    style = {"color": COLOURS[0], "size": 11, "opacity": 0.55}
    words = [f"fold {k}: {value:.1%}" for k, value in enumerate(by_fold)]
    values = [100 * value for value in by_fold]
    figure.add_scatter(
        x=values, y=[0] * len(values), mode="markers", marker=style, name="each fold", text=words, hoverinfo="text"
    )
    mark = {"color": COLOURS[1], "size": 17, "symbol": "diamond"}
    figure.add_scatter(
        x=[100 * probability],
        y=[0],
        mode="markers",
        marker=mark,
        name="all folds",
        text=[f"all folds: {probability:.1%}"],
        hoverinfo="text",
    )
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


def _text(name: str) -> str:
    """Return a name as Plotly shows it letter by letter: it takes some HTML for formatting."""
    return name.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def curve(table: pd.DataFrame, x: str, y: str, *, diagonal: bool = False) -> go.Figure:
    """Return a ROC or precision-recall curve: pooled with its band, and each fold's thin."""
    figure = _figure(_axis(x), _axis(y))
    if diagonal:
        figure.add_scatter(
            x=[0, 1],
            y=[0, 1],
            mode="lines",
            line={"color": GREY, "dash": "dot", "width": 1},
            showlegend=False,
            hoverinfo="skip",
        )
    for k, (name, rows) in enumerate(table.groupby("class", sort=False)):
        colour = COLOURS[k % len(COLOURS)]
        for fold, of_fold in rows.dropna(subset="fold").groupby("fold"):
            figure.add_scatter(
                x=of_fold[x],
                y=of_fold[y],
                mode="lines",
                line={"color": colour, "width": 0.6},
                opacity=0.5,
                showlegend=False,
                hoverinfo="skip",
                name=f"fold {fold}",
            )
        pooled = rows[rows["fold"].isna()]
        band = pd.concat([pooled["ci_high"], pooled["ci_low"][::-1]])
        figure.add_scatter(
            x=pd.concat([pooled[x], pooled[x][::-1]]),
            y=band,
            fill="toself",
            line={"width": 0},
            fillcolor=_faded(colour, 0.2),
            showlegend=False,
            hoverinfo="skip",
        )
        figure.add_scatter(
            x=pooled[x],
            y=pooled[y],
            mode="lines",
            name=_text(str(name)),
            line={"color": colour, "dash": DASHES[k % 4], "width": 2},
            customdata=pooled[["ci_low", "ci_high"]],
            hovertemplate=f"{said(x)} %{{x:.3f}}<br>{said(y)} %{{y:.3f}}"
            " [%{customdata[0]:.3f}, %{customdata[1]:.3f}]<extra></extra>",
        )
    figure.update_xaxes(range=[-0.01, 1.01])
    figure.update_yaxes(range=[-0.01, 1.02])
    return figure


def _axis(name: str) -> str:
    return {"false_positive_rate": "False positive rate (1 − specificity)"}.get(name, said(name).capitalize())


def calibration(table: pd.DataFrame) -> go.Figure:
    """Return observed shares against predicted probabilities, before and after calibration."""
    figure = _figure("Predicted probability", "Observed share")
    figure.add_scatter(
        x=[0, 1],
        y=[0, 1],
        mode="lines",
        line={"color": GREY, "dash": "dot", "width": 1},
        showlegend=False,
        hoverinfo="skip",
    )
    for k, ((name, stage), rows) in enumerate(table.groupby(["class", "stage"], sort=False)):
        colour = COLOURS[k % len(COLOURS)]
        figure.add_scatter(
            x=rows["predicted"],
            y=rows["observed"],
            mode="markers+lines",
            name=f"{_text(str(name))}, {stage}",
            line={"color": colour, "dash": DASHES[k % 4], "width": 1.5},
            marker={"symbol": SYMBOLS[k % 7], "size": 8},
            error_y=_errors(rows, "observed"),
            customdata=rows["n"],
            hovertemplate="predicted %{x:.3f}<br>observed %{y:.3f}<br>%{customdata} images<extra></extra>",
        )
    return figure


def _errors(rows: pd.DataFrame, value: str, scale: float = 1) -> dict[str, Any]:
    above, below = rows["ci_high"] - rows[value], rows[value] - rows["ci_low"]
    return {"array": scale * above.clip(0), "arrayminus": scale * below.clip(0), "thickness": 1, "width": 3}


def confusion(table: pd.DataFrame, classes: Classes) -> go.Figure:
    """Return the confusion matrix: counts, and shares of each true class by depth of colour."""
    counts = table.pivot_table(index="label", columns="predicted", values="n").reindex(index=classes, columns=classes)
    shares = counts.div(counts.sum(axis=1), axis=0).fillna(0)
    words = [
        [f"{counts.iat[i, j]:,.0f}<br>{shares.iat[i, j]:.1%}" for j in range(len(classes))] for i in range(len(classes))
    ]
    names = [_text(name) for name in classes]
    figure = _figure("Called", "True class", height=340)
    figure.add_heatmap(
        z=shares,
        x=names,
        y=names,
        text=words,
        texttemplate="%{text}",
        colorscale="Blues",
        zmin=0,
        zmax=1,
        showscale=False,
        textfont={"size": 16},
        xgap=2,
        ygap=2,
        hovertemplate="%{y} called %{x}: %{text}<extra></extra>",
    )
    figure.update_xaxes(fixedrange=True)
    figure.update_yaxes(autorange="reversed", fixedrange=True)
    return figure


def training(table: pd.DataFrame) -> go.Figure:
    """Return the training loss by epoch, a line for each fold."""
    figure = _figure("Epoch", "Training loss (class-weighted)")
    for k, (fold, rows) in enumerate(table.groupby("fold")):
        figure.add_scatter(
            x=rows["epoch"],
            y=rows["training_loss"],
            mode="markers+lines",
            name=f"fold {fold}",
            line={"color": COLOURS[k % 7], "dash": DASHES[k % 4]},
            marker={"symbol": SYMBOLS[k % 7]},
        )
    figure.update_yaxes(rangemode="tozero")
    return figure


def forest(table: pd.DataFrame, level: str, metrics: Sequence[str]) -> go.Figure:
    """Return values with intervals, a line for each level, a symbol for each metric, in percent."""
    levels = table[level].unique().tolist()
    figure = _figure("%", "", height=110 + 42 * len(levels))
    for k, metric in enumerate(metrics):
        rows = table[table["metric"] == metric]
        offset = 0.2 * (k - (len(metrics) - 1) / 2)
        figure.add_scatter(
            x=100 * rows["value"],
            y=[levels.index(one) + offset for one in rows[level]],
            mode="markers",
            name=said(metric),
            marker={"color": COLOURS[k % 7], "symbol": SYMBOLS[k % 7], "size": 8},
            error_x=_errors(rows, "value", 100),
            customdata=rows[["ci_low", "ci_high"]],
            text=[_text(str(one)) for one in rows[level]],
            hovertemplate=f"%{{text}}<br>{said(metric)} %{{x:.1f}} %<extra></extra>",
        )
    figure.update_yaxes(
        tickvals=list(range(len(levels))),
        ticktext=[_text(str(one)) for one in levels],
        range=[len(levels) - 0.5, -0.5],
        automargin=True,
    )
    return figure


def histogram(table: pd.DataFrame, threshold: float | None = None) -> go.Figure:
    """Return calibrated probabilities of the images of each class, as shares of the class, with a threshold."""
    figure = _figure("Calibrated probability", "Share of the class's images", height=300, barmode="overlay")
    for k, (label, rows) in enumerate(table.groupby("label", sort=False)):
        middle, name = (rows["low"] + rows["high"]) / 2, f"{_text(str(label))} images"
        figure.add_bar(
            x=middle,
            y=rows["share"],
            width=0.05,
            name=name,
            marker={"color": COLOURS[k % 7], "pattern": {"shape": ("", "/", ".", "x")[k % 4]}},
            opacity=0.6,
            customdata=rows["n"],
            hovertemplate="%{x:.2f}: %{customdata} images<extra></extra>",
        )
    if threshold is not None:
        figure.add_vline(x=threshold, line={"color": GREY, "dash": "dash", "width": 2})
    figure.update_xaxes(range=[0, 1], fixedrange=True)
    figure.update_yaxes(fixedrange=True)
    return figure


def scoring_run_scores(counts: Sequence[int], name: str) -> go.Figure:
    """Return how many images of a batch have which probability, in bins from 0 to 1."""
    figure = _figure(f"Calibrated probability of {_text(name)}", "Images", height=240)
    width = 1 / max(1, len(counts))
    middle = [(k + 0.5) * width for k in range(len(counts))]
    figure.add_bar(
        x=middle,
        y=list(counts),
        width=width * 0.95,
        marker={"color": COLOURS[0]},
        hovertemplate="%{x:.3f}: %{y} images<extra></extra>",
    )
    figure.update_xaxes(range=[0, 1])
    return figure
