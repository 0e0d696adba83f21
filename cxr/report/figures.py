"""The figures of a run's report, each drawn from one table.

Series differ in marker or dash as well as in colour, so that they can be told apart without it.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cxr.classes import Classes
from cxr.report.drawing import INK, Figure, draw, legible
from cxr.report.histograms import DASHES, Mark, histogram
from cxr.report.markup import COLOURS
from cxr.wording import display_name, format_estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
PERCENT = 100
MODELS = {"networks": "networks", "acquisition": "acquisition alone", "difference": "difference"}
"""What a figure calls the models of the acquisition-only baseline."""
MAX_LINE = 64
"""Characters of the name of a line with values: a class and a subgroup."""
FEW_LINES = 15
"""As many lines stand apart; more are closer together, so that they fit on a sheet of paper with what is about them."""
CORNER = 0.2
"""The part of a ROC curve that is enlarged: false positive rates up to 0.2, sensitivities from 0.8."""


def roc(table: pd.DataFrame, points: pd.DataFrame, auc: str) -> Figure:
    """Return the ROC curve with its band, the curves of the folds and the operating points.

    Args:
        table: columns class, fold (missing for the pooled curve), false_positive_rate, sensitivity, ci_low, ci_high.
        points: columns operating_point, metric, value; empty for more than two classes.
        auc: the pooled ROC-AUC, as text.
    """

    def plot(axes: "Axes", curves: pd.DataFrame) -> None:
        in_corner = curves["fold"].isna() & (curves["false_positive_rate"] <= CORNER)
        panels = [axes]
        if curves.loc[in_corner, "sensitivity"].max() > 1 - CORNER:  # the inset would cover a worse curve
            panels += [axes.inset_axes((0.4, 0.42, 0.58, 0.5), xlim=(0, CORNER), ylim=(1 - CORNER, 1.002))]
        wide = points.pivot_table(index="operating_point", columns="metric", values="value", sort=False)
        for panel in panels:
            _curves(panel, curves, "false_positive_rate", "sensitivity")
            panel.plot([0, 1], [0, 1], ":", color=INK, linewidth=0.8)
            for marker, (name, row) in zip(MARKERS, wide.iterrows(), strict=False):
                style: dict[str, Any] = {"color": INK, "fillstyle": "none", "linestyle": ""}
                panel.plot(1 - row["specificity"], row["sensitivity"], marker, label=display_name(name), **style)
        axes.set(
            xlabel="False positive rate (1 − specificity)", ylabel="Sensitivity", xlim=(-0.01, 1.01), ylim=(0, 1.01)
        )
        axes.legend(loc="lower right", ncols=2)

    out_of_fold = ", out of fold" if table["fold"].notna().any() else ""
    description = f"Sensitivity against false positive rate{out_of_fold}; {auc}."
    caption = f"ROC curve, {'out of fold and ' if out_of_fold else ''}before calibration, with 95% band"
    caption += "; thin lines are folds" if out_of_fold else ""
    if len(points):
        part = "fold" if out_of_fold else "part"
        caption += (
            f"; symbols are operating points, each {part} at the threshold that the other {part}s choose, "
            "and may lie beside the curve of all images"
        )
    return draw("roc", caption, description, table, plot)


def precision_recall(table: pd.DataFrame, description: str) -> Figure:
    """Return the precision-recall curve with its band and the curves of the folds."""

    def plot(axes: "Axes", curves: pd.DataFrame) -> None:
        _curves(axes, curves, "recall", "precision")
        lowest = curves[["precision", "ci_low"]].min().min()
        bottom = 0 if np.isnan(lowest) else max(0, np.floor(10 * lowest - 0.5) / 10)
        axes.set(xlabel="Recall (sensitivity)", ylabel="Precision", xlim=(0, 1.01), ylim=(bottom, 1.01))
        axes.legend(loc="lower left")

    return draw("precision_recall", "Precision against recall with 95% band", description, table, plot)


def _curves(axes: "Axes", curves: pd.DataFrame, x: str, y: str) -> None:
    """Plot `y` against `x` for each class: the pooled curve with its band, and thin lines for the folds."""
    for k, (name, curves_of_class) in enumerate(curves.groupby("class", sort=False)):
        colour = COLOURS[k % len(COLOURS)]
        for _, fold in curves_of_class.dropna(subset="fold").groupby("fold"):
            axes.plot(fold[x], fold[y], color=colour, linewidth=0.7, alpha=0.6)
        pooled = curves_of_class[curves_of_class["fold"].isna()]
        axes.fill_between(pooled[x], pooled["ci_low"], pooled["ci_high"], color=colour, alpha=0.2, linewidth=0)
        axes.plot(pooled[x], pooled[y], DASHES[k % len(DASHES)], color=colour, label=legible(name))


def calibration(table: pd.DataFrame, description: str) -> Figure:
    """Return the smooth calibration curves with their bands and the bins, before and after calibration.

    Of one class both stages are in one panel; of several classes each has a panel.

    Args:
        table: columns class, stage, kind (`bin` or `smooth`), predicted, observed, ci_low and ci_high.
        description: of the figure.
    """

    caption = "Calibration: smooth curves with 95% bands, and bins of equally many images with 95% intervals"
    if table["class"].nunique() == 1:
        return draw("calibration", caption, description, table, _both_stages)
    n_stages = table["stage"].nunique()
    return draw("calibration", caption, description, table, _each_stage, height=3.2 * n_stages, grid=(n_stages, 1))


def _both_stages(axes: "Axes", points: pd.DataFrame) -> None:
    _calibrated(axes, points, points["class"] + ", " + points["stage"])


def _each_stage(panels: Any, points: pd.DataFrame) -> None:
    """Give each stage a panel: both of several classes in one would cover each other."""
    for axes, (stage, rows) in zip(np.atleast_1d(panels), points.groupby("stage", sort=False), strict=True):
        _calibrated(axes, rows, rows["class"])
        axes.set_title(f"{stage} calibration", fontsize=9)


def _calibrated(axes: "Axes", points: pd.DataFrame, series: pd.Series) -> None:
    """Plot the bins and the smooth curve of each series; the columns of `points` are those of `calibration`."""
    axes.plot([0, 1], [0, 1], ":", color=INK, linewidth=0.8)
    for k, (name, rows) in enumerate(points.groupby(series, sort=False)):
        bins, curve = (rows[rows["kind"] == kind] for kind in ("bin", "smooth"))
        style = _line_style(k, legible(name), with_line=False)
        bars = axes.errorbar(bins["predicted"], bins["observed"], yerr=_error_bars(bins, "observed"), **style)
        colour = bars.lines[0].get_color()
        axes.plot(curve["predicted"], curve["observed"], DASHES[k % len(DASHES)], color=colour)
        axes.fill_between(curve["predicted"], curve["ci_low"], curve["ci_high"], color=colour, alpha=0.15, linewidth=0)
    axes.set(xlabel="Predicted probability", ylabel="Observed share", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.legend(loc="lower right")


def _error_bars(rows: pd.DataFrame, value: str, scale: float = 1) -> list[pd.Series]:
    """Return the distances from the value to the bounds of its interval, as matplotlib expects them."""
    below = (rows[value] - rows["ci_low"]).clip(0)
    above = (rows["ci_high"] - rows[value]).clip(0)
    return [below * scale, above * scale]


def _line_style(k: int, label: str, *, with_line: bool = True) -> dict[str, Any]:
    """Return colour, marker and dash of the k-th series."""
    marker = MARKERS[k % len(MARKERS)]
    dash = DASHES[k % len(DASHES)] if with_line else ""
    return {"fmt": marker + dash, "color": COLOURS[k % len(COLOURS)], "markersize": 4, "linewidth": 1, "label": label}


def net_benefit(table: pd.DataFrame) -> Figure:
    """Return the decision curve."""

    def plot(axes: "Axes", curve: pd.DataFrame) -> None:
        axes.fill_between(curve["threshold"], curve["ci_low"], curve["ci_high"], alpha=0.2, linewidth=0)
        axes.plot(curve["threshold"], curve["net_benefit"], label="model")
        axes.plot(curve["threshold"], curve["net_benefit_of_all"], "--", label="all predicted positive")
        axes.axhline(0, color=INK, linestyle=":", linewidth=0.8, label="none predicted positive")
        top = max(curve["net_benefit"].max(), curve["net_benefit_of_all"].max())
        axes.set(xlabel="Threshold probability", ylabel="Net benefit per image", ylim=(-0.1 * top - 0.02, 1.1 * top))
        if top < 0.5:  # of a rare class the curves fall at once, and leave the right side free
            axes.legend(loc="upper right")
        else:
            axes.legend(loc="lower left", bbox_to_anchor=(0, 0.2))

    description = (
        "Net benefit by threshold probability: of the model, and of predicting all images or none as positive."
    )
    return draw("decision_curve", "Decision curve with 95% band", description, table, plot)


def scores(
    table: pd.DataFrame, what: str = "out-of-fold probabilities", threshold: tuple[str, float] | None = None
) -> Figure:
    """Return the histograms of probabilities by true class; of more than two classes, of the true class alone.

    Args:
        table: as `cxr.evaluation.analyses.score_table` returns it.
        what: the probabilities are of which kind, such as out-of-fold probabilities.
        threshold: of an operating point, to be marked: its name and where it is; None for none.
    """
    shown, caption = table, "Calibrated probabilities by true class"
    if table["class"].nunique() > 1:
        shown, caption = table[table["class"] == table["label"]], "Calibrated probabilities of the true class"
    drawn = histogram(
        "scores",
        caption,
        f"Histograms of calibrated {what}{caption.removeprefix('Calibrated probabilities')}, 20 bins.",
        shown.assign(series=shown["label"] + " images"),
        axis="Calibrated probability",
        share="Share of the true class",
        mark=Mark(f"threshold, {threshold[0]}", threshold[1]) if threshold else None,
    )
    return replace(drawn, table=table)


def confusion(table: pd.DataFrame, classes: Classes, at: str) -> Figure:
    """Return the confusion matrix: counts, and shares of each true class as text and shade.

    Args:
        table: columns label, predicted and n.
        classes: in output order.
        at: when a class is predicted, in words that follow `Confusion matrix`.
    """

    def plot(axes: "Axes", counts: pd.DataFrame) -> None:
        matrix = counts.pivot_table(index="label", columns="predicted", values="n")
        matrix = matrix.reindex(index=classes, columns=classes)
        shares = matrix.div(matrix.sum(axis=1), axis=0).fillna(0)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for i, row in enumerate(shares.to_numpy()):
            for j, share in enumerate(row):
                text = f"{matrix.iat[i, j]:,.0f}\n{share:.1%}"
                axes.text(j, i, text, ha="center", va="center", color="white" if share > 0.7 else "black")
        names = [legible(name) for name in classes]
        axes.set_xticks(range(len(classes)), names)
        axes.set_yticks(range(len(classes)), names, rotation=90, va="center")
        axes.set(xlabel="Predicted class", ylabel="True class")

    description = "; ".join(f"{row.label} predicted as {row.predicted}: {row.n}" for row in table.itertuples())
    return draw("confusion", f"Confusion matrix {at}; shares are of the true class", description, table, plot)


def acquisition(table: pd.DataFrame) -> Figure:
    """Return the ROC-AUC of the networks and of acquisition alone, and their difference, with intervals.

    Args:
        table: as `cxr.evaluation.acquisition_baseline.compare_with_networks` returns it.
    """
    named = table.assign(metric="roc_auc", line=table["model"].map(MODELS))
    if table["class"].nunique() > 1:
        named["line"] = table["class"] + ", " + named["line"]
    caption = "ROC-AUC of the networks and of acquisition alone on the same images, with 95% intervals"
    drawn = forest("acquisition", caption, named, "line", ("roc_auc",))
    return replace(drawn, table=table)


def forest(name: str, caption: str, table: pd.DataFrame, level: str, metrics: Sequence[str]) -> Figure:
    """Return values with intervals, as marks and as numbers: one row per level, one panel per metric.

    Args:
        name: of the figure.
        caption: of the figure.
        table: columns metric, value, ci_low, ci_high and the one named by `level`; n, the number of images, if known.
        level: the column that names the rows of the figure.
        metrics: those to show.
    """
    from matplotlib.ticker import MaxNLocator

    levels = table[level].unique().tolist()
    labels = [legible(row_name, MAX_LINE) for row_name in levels]
    if "n" in table:
        n_images = table.groupby(level)["n"].max()
        labels = [f"{label} (n = {n_images[row_name]:,})" for label, row_name in zip(labels, levels, strict=True)]

    def plot(panels: Any, rows: pd.DataFrame) -> None:
        for k, (axes, metric) in enumerate(zip(np.atleast_1d(panels), metrics, strict=True)):
            shown = rows[rows["metric"] == metric].dropna(subset="value")
            y = [levels.index(row_name) for row_name in shown[level]]
            style = _line_style(k, display_name(metric), with_line=False)
            bars = _error_bars(shown, "value", PERCENT)
            axes.errorbar(shown["value"] * PERCENT, y, xerr=bars, clip_on=False, **style)
            axes.set_xlim(_within_bounds(shown))
            for place, value, low, high in zip(y, shown["value"], shown["ci_low"], shown["ci_high"], strict=True):
                text = format_estimate(value, low, high)
                axes.text(1.06, place, text, transform=axes.get_yaxis_transform(), va="center", fontsize=7)
            axes.set_title(display_name(metric), fontsize=9)
            axes.set(xlabel="%")
            axes.xaxis.set_major_locator(MaxNLocator(4))
        axes = np.atleast_1d(panels)[0]
        axes.set_yticks(range(len(levels)), labels)
        axes.set_ylim(len(levels) - 0.5, -0.5)

    shown = table[table["metric"].isin(metrics)].dropna(subset="value")
    description = "; ".join(
        f"{row[level]}: {display_name(row['metric'])} {row['value']:.1%}" for row in shown.to_dict("records")
    )
    size = {
        "width": 1.4 + 0.075 * max(map(len, labels), default=0) + 2.2 * len(metrics),
        "height": 0.9 + (0.3 if len(levels) <= FEW_LINES else 0.2) * len(levels),
    }
    return draw(name, caption, description, table, plot, **size, grid=(1, len(metrics)))


def _within_bounds(rows: pd.DataFrame) -> tuple[float, float] | None:
    """Return the limits of an axis in percent that leave out no value or interval, and show no impossible share.

    Args:
        rows: columns value, ci_low and ci_high; values below 0 are differences, which have no bounds.
    """
    known = rows[["value", "ci_low", "ci_high"]] * PERCENT
    low, high = known.min().min(), known.max().max()
    if not len(rows) or low < 0:
        return None
    margin = max(0.05 * (high - low), 0.2)
    return max(low - margin, 0), min(high + margin, PERCENT)


def training(table: pd.DataFrame) -> Figure:
    """Return the training loss by epoch, one line per fold."""
    from matplotlib.ticker import MaxNLocator

    def plot(axes: "Axes", epochs: pd.DataFrame) -> None:
        for k, (fold, rows) in enumerate(epochs.groupby("fold")):
            style = MARKERS[k % len(MARKERS)] + DASHES[k % len(DASHES)]
            axes.plot(rows["epoch"], rows["training_loss"], style, markersize=3, label=f"fold {fold}")
        axes.set(xlabel="Epoch", ylabel="Training loss", xlim=(0, None), ylim=(0, None))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(ncols=2)

    last = table.sort_values("epoch").groupby("fold")["training_loss"].last()
    description = f"Training loss by epoch and fold; after the last epoch {last.min():.3f} to {last.max():.3f}."
    return draw("training", "Training loss", description, table, plot)


def robustness(table: pd.DataFrame, metrics: Sequence[str]) -> Figure:
    """Return metrics against strength (0: unchanged), one panel per change; the last panel holds the legend."""
    changes = table.loc[table["strength"] > 0, "change"].unique().tolist()

    def plot(grid: Any, rows: pd.DataFrame) -> None:
        for axes, change in zip(grid.flat, changes, strict=False):
            _one_change(axes, rows, change, metrics)
        for row in grid:
            row[0].set_ylabel("%")
        grid.flat[-1].axis("off")
        grid.flat[-1].legend(*grid.flat[0].get_legend_handles_labels(), loc="center")

    shown = table[table["change"].isin(changes) & table["metric"].isin(metrics)].sort_values("strength")
    description = "; ".join(
        f"{display_name(change)} at its strongest: {display_name(metric)} {rows['value'].iloc[-1]:.1%}"
        for (change, metric), rows in shown.groupby(["change", "metric"], sort=False)
    )
    caption = "Metrics on degraded images, with 95% intervals; – is the unchanged image"
    return draw("robustness", caption, description, table, plot, width=6.6, height=4.4, grid=(2, 3))


def _one_change(axes: "Axes", rows: pd.DataFrame, change: str, metrics: Sequence[str]) -> None:
    panel = rows[(rows["change"] == change) | (rows["strength"] == 0)]
    for k, metric in enumerate(metrics):
        shown = panel[panel["metric"] == metric].sort_values("strength")
        style = _line_style(k, display_name(metric))
        axes.errorbar(shown["strength"], shown["value"] * PERCENT, yerr=_error_bars(shown, "value", PERCENT), **style)
    steps = rows[rows["change"] == change].drop_duplicates("strength").sort_values("strength")
    axes.set_xticks([0, *steps["strength"]], ["–", *(f"{amount:g}" for amount in steps["amount"])])
    axes.set(title=display_name(change), ylim=(0, 102))
    axes.set_xlabel(steps["unit"].iloc[0], fontsize=7)


def learning(table: pd.DataFrame, metrics: Sequence[str]) -> Figure:
    """Return metrics against the number of training images."""

    def plot(axes: "Axes", rows: pd.DataFrame) -> None:
        for k, metric in enumerate(metrics):
            shown = rows[rows["metric"] == metric].sort_values("n_images")
            style = _line_style(k, display_name(metric))
            bars = _error_bars(shown, "pooled", PERCENT)
            axes.errorbar(shown["n_images"], shown["pooled"] * PERCENT, yerr=bars, **style)
        axes.set(xlabel="Training images per fold", ylabel="%", xlim=(0, None))
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)

    shown = table[table["metric"] == metrics[0]].sort_values("n_images")
    description = "; ".join(
        f"{row.n_images:,.0f} images: {display_name(metrics[0])} {row.pooled:.1%}" for row in shown.itertuples()
    )
    caption = "Metrics by number of training images, with 95% intervals"
    return draw("learning_curve", caption, description, table, plot)
