"""The report's figures: each drawn from one table, as SVG that goes into a page and into a file.

Text stays text, and takes the page's own ink, so figures follow light and dark; series differ in shape or
dash as well as in colour (Okabe and Ito's, which colour-blind readers tell apart). Each says in words what it
shows.
"""

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd

from cxr.classes import Classes
from cxr.report.markup import COLOURS
from cxr.report.wording import said

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK = "#010203"
"""Stands for the colour of the page's text."""
DASHES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
PERCENT = 100
CORNER = 0.2
"""The part of a ROC curve that is shown enlarged: rates up to it, sensitivities from as far below 1."""
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "axes.prop_cycle": "cycler('color', ['" + "','".join(COLOURS) + "'])",
    "figure.constrained_layout.use": True,
}


@dataclass(frozen=True)
class Figure:
    """A figure and the numbers in it."""

    name: str
    caption: str
    description: str
    """What it shows, in words, for those who do not see it."""
    table: pd.DataFrame
    svg: str


def draw(
    name: str,
    caption: str,
    description: str,
    table: pd.DataFrame,
    plot: Callable[[Any, pd.DataFrame], None],
    *,
    width: float = 4.6,
    height: float = 3.6,
    grid: tuple[int, int] | None = None,
) -> Figure:
    """Return the figure that `plot` draws of the table; width and height in inches.

    `plot` gets the axes, or those of a grid of (rows, columns) in an array.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure as Canvas

    stream = io.StringIO()
    style: dict[Any, Any] = STYLE | {"svg.hashsalt": name}
    with mpl.rc_context(style):
        canvas = Canvas(figsize=(width, height))
        FigureCanvasSVG(canvas)
        plot(canvas.subplots(*grid, sharey=True) if grid else canvas.add_subplot(), table)
        canvas.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    return Figure(name, caption, description, table, _accessible(stream.getvalue(), name, caption, description))


def _accessible(svg: str, name: str, caption: str, description: str) -> str:
    """Return the drawing with a name and a description, ids of its own and the page's ink."""
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", XLINK)  # what an HTML parser knows it by
    root = ElementTree.fromstring(svg)  # noqa: S314 our own drawing
    for metadata in root.findall(f"{{{SVG}}}metadata"):
        root.remove(metadata)
    for tag, text in (("desc", description), ("title", caption)):
        element = ElementTree.Element(f"{{{SVG}}}{tag}", {"id": f"{tag}"})
        element.text = text
        root.insert(0, element)
    for size in ("width", "height"):
        root.attrib.pop(size, None)
    root.attrib |= {"role": "img", "aria-labelledby": "title desc"}
    text = ElementTree.tostring(root, encoding="unicode")
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\1{name}-", text)
    text = text.replace('aria-labelledby="title desc"', f'aria-labelledby="{name}-title {name}-desc"')
    return text.replace(INK, "currentColor")


def roc(table: pd.DataFrame, points: pd.DataFrame, auc: str) -> Figure:
    """Return the ROC curve with its band, the folds' curves, and the operating points of two classes."""

    def plot(axes: "Axes", curves: pd.DataFrame) -> None:
        good = curves.loc[curves["fold"].isna() & (curves["false_positive_rate"] <= CORNER), "sensitivity"].max()
        parts = [axes]
        if good > 1 - CORNER:  # what the corner shows of a worse curve would hide it
            parts += [axes.inset_axes((0.4, 0.42, 0.58, 0.5), xlim=(0, CORNER), ylim=(1 - CORNER, 1.002))]
        wide = points.pivot_table(index="operating_point", columns="metric", values="value", sort=False)
        for part in parts:
            _curves(part, curves, "false_positive_rate", "sensitivity")
            part.plot([0, 1], [0, 1], ":", color=INK, linewidth=0.8)
            for marker, (name, row) in zip(MARKERS, wide.iterrows(), strict=False):
                style: dict[str, Any] = {"color": INK, "fillstyle": "none", "linestyle": "", "label": said(name)}
                part.plot(1 - row["specificity"], row["sensitivity"], marker, **style)
        axes.set(xlabel="False positive rate (1 − specificity)", ylabel="Sensitivity", xlim=(-0.01, 1), ylim=(0, 1.01))
        axes.legend(loc="lower right", ncols=2)

    words = f"Sensitivity against false positive rate, out of fold; {auc}. Thin lines: folds."
    return draw("roc", "ROC curve with 95 % band", words, table, plot)


def precision_recall(table: pd.DataFrame, words: str) -> Figure:
    """Return precision against recall, with its band and the folds' curves."""

    def plot(axes: "Axes", curves: pd.DataFrame) -> None:
        _curves(axes, curves, "recall", "precision")
        lowest = curves[["precision", "ci_low"]].min().min()
        bottom = 0 if np.isnan(lowest) else max(0, np.floor(10 * lowest - 0.5) / 10)
        axes.set(xlabel="Recall (sensitivity)", ylabel="Precision", xlim=(0, 1.01), ylim=(bottom, 1.01))
        axes.legend(loc="lower left")

    return draw("precision_recall", "Precision against recall with 95 % band", words, table, plot)


def _curves(axes: "Axes", curves: pd.DataFrame, x: str, y: str) -> None:
    for colour, dash, (name, of_class) in zip(
        COLOURS * 9, DASHES * 9, curves.groupby("class", sort=False), strict=False
    ):
        for _, fold in of_class.dropna(subset="fold").groupby("fold"):
            axes.plot(fold[x], fold[y], color=colour, linewidth=0.5, alpha=0.5)
        pooled = of_class[of_class["fold"].isna()]
        axes.fill_between(pooled[x], pooled["ci_low"], pooled["ci_high"], color=colour, alpha=0.2, linewidth=0)
        axes.plot(pooled[x], pooled[y], dash, color=colour, label=str(name))


def calibration(table: pd.DataFrame, words: str) -> Figure:
    """Return the reliability curve before and after calibration."""

    def plot(axes: "Axes", bins: pd.DataFrame) -> None:
        axes.plot([0, 1], [0, 1], ":", color=INK, linewidth=0.8)
        for k, ((name, stage), rows) in enumerate(bins.groupby(["class", "stage"], sort=False)):
            error = [(rows["observed"] - rows["ci_low"]).clip(0), (rows["ci_high"] - rows["observed"]).clip(0)]
            label = f"{name}, {stage}"
            style = {"color": COLOURS[k % 7], "fmt": MARKERS[k % 7] + DASHES[k % 4], "markersize": 4, "linewidth": 1}
            axes.errorbar(rows["predicted"], rows["observed"], yerr=error, label=label, **style)
        axes.set(xlabel="Predicted probability", ylabel="Observed share", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        axes.legend(loc="lower right")

    return draw("calibration", "Reliability, bins of equally many images, 95 % intervals", words, table, plot)


def net_benefit(table: pd.DataFrame) -> Figure:
    """Return the decision curve."""

    def plot(axes: "Axes", curve: pd.DataFrame) -> None:
        axes.fill_between(curve["threshold"], curve["ci_low"], curve["ci_high"], alpha=0.2, linewidth=0)
        axes.plot(curve["threshold"], curve["net_benefit"], label="model")
        axes.plot(curve["threshold"], curve["net_benefit_of_all"], "--", label="call every image positive")
        axes.axhline(0, color=INK, linestyle=":", linewidth=0.8, label="call none")
        top = max(curve["net_benefit"].max(), curve["net_benefit_of_all"].max())
        axes.set(xlabel="Threshold probability", ylabel="Net benefit per image", ylim=(-0.1 * top - 0.02, 1.1 * top))
        axes.legend(loc="lower left", bbox_to_anchor=(0, 0.2))

    words = "Net benefit of the model, of calling every image positive and of calling none, by threshold probability."
    return draw("decision_curve", "Decision curve with 95 % band", words, table, plot)


def scores(table: pd.DataFrame) -> Figure:
    """Return the histogram of probabilities by true class."""

    def plot(axes: "Axes", bins: pd.DataFrame) -> None:
        for dash, ((asked, label), rows) in zip(DASHES * 9, bins.groupby(["class", "label"], sort=False), strict=False):
            steps = [*rows["share"], rows["share"].iloc[-1]]
            predicted = f"{label} images" + (f", of {asked}" if bins["class"].nunique() > 1 else "")
            axes.step([*rows["low"], 1], steps, dash, where="post", label=predicted)
        axes.set(xlabel="Calibrated probability", ylabel="Share of the class's images", xlim=(0, 1))
        axes.legend()

    words = "Histograms of calibrated out-of-fold probabilities by true class, 20 bins."
    return draw("scores", "Probabilities by true class", words, table, plot)


def confusion(table: pd.DataFrame, classes: Classes) -> Figure:
    """Return the confusion matrix: counts, and shares of each true class by depth of colour."""

    def plot(axes: "Axes", counts: pd.DataFrame) -> None:
        matrix = counts.pivot_table(index="label", columns="predicted", values="n").reindex(
            index=classes, columns=classes
        )
        shares = matrix.div(matrix.sum(axis=1), axis=0).fillna(0)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for i, row in enumerate(shares.to_numpy()):
            for j, share in enumerate(row):
                text = f"{matrix.iat[i, j]:,.0f}\n{share:.1%}"
                axes.text(j, i, text, ha="center", va="center", color="white" if share > 0.7 else "black")
        axes.set_xticks(range(len(classes)), classes)
        axes.set_yticks(range(len(classes)), classes, rotation=90, va="center")
        axes.set(xlabel="Called", ylabel="True class")

    words = "; ".join(f"{r.label} called {r.predicted}: {r.n}" for r in table.itertuples())
    return draw("confusion", "Confusion matrix at probability 0.5", words, table, plot)


def forest(name: str, caption: str, table: pd.DataFrame, level: str, metrics: Sequence[str]) -> Figure:
    """Return values with intervals, one line per level, one panel of colour per metric.

    Args:
        name: of the figure.
        caption: of the figure.
        table: columns `level`, metric, value, ci_low, ci_high.
        level: the column that names the lines.
        metrics: which to show.
    """
    levels = table[level].unique().tolist()

    def plot(axes: "Axes", rows: pd.DataFrame) -> None:
        for k, metric in enumerate(metrics):
            of = rows[rows["metric"] == metric]
            y = [levels.index(one) + 0.18 * (k - (len(metrics) - 1) / 2) for one in of[level]]
            error = [(of["value"] - of["ci_low"]).clip(0), (of["ci_high"] - of["value"]).clip(0)]
            style = {"fmt": MARKERS[k % 7], "color": COLOURS[k % 7], "markersize": 4, "linewidth": 1}
            axes.errorbar(of["value"] * PERCENT, y, xerr=[e * PERCENT for e in error], label=said(metric), **style)
        axes.set_yticks(range(len(levels)), levels)
        axes.invert_yaxis()
        axes.set(xlabel="%")
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=4)

    shown = table[table["metric"].isin(metrics)].dropna(subset="value")
    words = "; ".join(f"{getattr(r, level)}: {said(r.metric)} {r.value:.1%}" for r in shown.itertuples())
    return draw(name, caption, words, table, plot, width=6.4, height=1.3 + 0.42 * len(levels))


def training(table: pd.DataFrame) -> Figure:
    """Return the training loss by epoch, one line per fold."""
    from matplotlib.ticker import MaxNLocator

    def plot(axes: "Axes", epochs: pd.DataFrame) -> None:
        for k, (fold, rows) in enumerate(epochs.groupby("fold")):
            style = MARKERS[k % 7] + DASHES[k % 4]
            axes.plot(rows["epoch"], rows["training_loss"], style, markersize=3, label=f"fold {fold}")
        axes.set(xlabel="Epoch", ylabel="Training loss (class-weighted)", ylim=(0, None))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(ncols=2)

    last = table.sort_values("epoch").groupby("fold")["training_loss"].last()
    words = f"Training loss by epoch and fold; at the end {last.min():.3f} to {last.max():.3f}."
    return draw("training", "Training loss", words, table, plot)


def robustness(table: pd.DataFrame, metrics: Sequence[str]) -> Figure:
    """Return metrics against strength (0: unchanged), a panel for each change; the last panel holds the legend."""
    changes = table.loc[table["strength"] > 0, "change"].unique().tolist()

    def plot(grid: Any, rows: pd.DataFrame) -> None:
        for axes, change in zip(grid.flat, changes, strict=False):
            shown = rows[(rows["change"] == change) | (rows["strength"] == 0)]
            for k, metric in enumerate(metrics):
                of = shown[shown["metric"] == metric].sort_values("strength")
                error = [(of["value"] - of["ci_low"]).clip(0), (of["ci_high"] - of["value"]).clip(0)]
                style = {"fmt": MARKERS[k] + DASHES[k], "color": COLOURS[k], "markersize": 4, "linewidth": 1}
                bars = [part * PERCENT for part in error]
                axes.errorbar(of["strength"], of["value"] * PERCENT, yerr=bars, label=said(metric), **style)
            steps = rows[rows["change"] == change].drop_duplicates("strength").sort_values("strength")
            axes.set_xticks([0, *steps["strength"]], ["–", *(f"{a:g}" for a in steps["amount"])])
            axes.set(title=said(change), ylim=(0, 102))
            axes.set_xlabel(steps["unit"].iloc[0], fontsize=7)
        for row in grid:
            row[0].set_ylabel("%")
        grid.flat[-1].axis("off")
        grid.flat[-1].legend(*grid.flat[0].get_legend_handles_labels(), loc="center")

    worst = table[table["metric"].isin(metrics)].sort_values("strength").groupby(["change", "metric"], sort=False)
    words = "; ".join(
        f"{said(change)} at its strongest: {said(metric)} {of['value'].iloc[-1]:.1%}"
        for (change, metric), of in worst
        if change in changes
    )
    caption = "Metrics on images made worse, 95 % intervals; – is the image as it is"
    return draw("robustness", caption, words, table, plot, width=6.6, height=4.4, grid=(2, 3))


def learning(table: pd.DataFrame, metrics: Sequence[str]) -> Figure:
    """Return metrics against the number of training images."""

    def plot(axes: "Axes", rows: pd.DataFrame) -> None:
        for k, metric in enumerate(metrics):
            of = rows[rows["metric"] == metric].sort_values("n_images")
            error = [(of["pooled"] - of["ci_low"]).clip(0) * PERCENT, (of["ci_high"] - of["pooled"]).clip(0) * PERCENT]
            style = {"fmt": MARKERS[k] + DASHES[k], "color": COLOURS[k], "markersize": 4, "linewidth": 1}
            axes.errorbar(of["n_images"], of["pooled"] * PERCENT, yerr=error, label=said(metric), **style)
        axes.set(xlabel="Training images of a fold", ylabel="%", xlim=(0, None))
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)

    of_auc = table[table["metric"] == metrics[0]].sort_values("n_images")
    words = "; ".join(f"{r.n_images:,.0f} images: {said(metrics[0])} {r.pooled:.1%}" for r in of_auc.itertuples())
    return draw("learning_curve", "Metrics by number of training images, 95 % intervals", words, table, plot)
