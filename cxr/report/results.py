"""What a report shows of predictions, whoever made them: their figures, and which values are undefined."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from cxr.config import OperatingPoint
from cxr.evaluation import analyses
from cxr.evaluation.analyses import operating_points
from cxr.evaluation.out_of_fold import OutOfFold
from cxr.metrics.classification import COUNTS
from cxr.report import figures
from cxr.report.drawing import Figure
from cxr.storage import verified
from cxr.wording import display_name, format_estimate

Tables = dict[str, pd.DataFrame]
NO_INTERVAL = "no interval, because all images are of one patient"
HEADLINE: OperatingPoint = "youden"
"""The operating point of a package for which no other is asked, and so that of the first figures of a report."""
WITHOUT_THRESHOLD = {True: "at probability 0.5, before calibration", False: "of the most probable class"}
"""When a class is predicted if no operating point is chosen: of two classes, and of more."""
FOLD_METRICS = ("roc_auc", "sensitivity", "specificity")


def figures_of(images: OutOfFold, tables: Tables) -> dict[str, Figure]:
    """Return the figures of predictions by name; of folds and subgroups, if there are any.

    Args:
        images: the predictions.
        tables: computed from them, by name: metrics, confusion, calibration, operating_points and subgroups.
    """
    curves = analyses.curve_tables(images)
    metrics = tables["metrics"]
    positive = metrics["class"] == images.classes.headline
    pooled = metrics[(metrics["scope"] == "pooled") & positive].set_index("metric")
    bounds = pooled[["value", "ci_low", "ci_high"]].to_dict("index")
    auc = f"{display_name('roc_auc')} {format_estimate(*bounds['roc_auc'].values(), unit='%')}"
    precision = (
        f"{display_name('average_precision')} {format_estimate(*bounds['average_precision'].values(), unit='%')}"
    )
    error = tables["calibration"].query("measure == 'ece'").set_index("stage")["value"]
    calibrated = f"ECE {error['before']:.3f} before and {error['after']:.3f} after calibration."
    out_of_fold = ", out of fold" if images.has_folds else ""
    drawn = [
        figures.roc(curves["roc"], tables["operating_points"], auc),
        figures.precision_recall(curves["precision_recall"], f"Precision against recall{out_of_fold}; {precision}."),
        _confusion(images, tables["confusion"]),
        figures.calibration(_calibration_points(images), calibrated),
        figures.scores(
            analyses.score_table(images),
            "out-of-fold probabilities" if images.has_folds else "probabilities",
            _mean_threshold(tables["operating_points"]),
        ),
    ]
    at = f"95% intervals; sensitivity and specificity are {WITHOUT_THRESHOLD[images.is_binary]}"
    if images.has_folds:
        by_fold = metrics[(metrics["scope"] == "fold") & positive]
        by_fold = by_fold.assign(level="fold " + by_fold["fold"].astype("string"))
        drawn.append(figures.forest("folds", f"Metrics of each fold, with {at}", by_fold, "level", FOLD_METRICS))
    subgroups = tables["subgroups"]
    if len(subgroups):
        subgroups = subgroups.assign(line=_lines(subgroups, images.is_binary))
        drawn.append(figures.forest("subgroups", f"Metrics of subgroups, with {at}", subgroups, "line", FOLD_METRICS))
    if images.is_binary:
        drawn.append(figures.net_benefit(analyses.decision_table(images)))
    return {figure.name: figure for figure in drawn}


def write_figure(folder: Path, figure: Figure) -> None:
    """Write a figure, and its numbers as a table, into the folder of figures."""
    verified.write_text(folder / f"{figure.name}.svg", figure.svg)
    verified.write_table(folder / f"{figure.name}.parquet", figure.table)


def _calibration_points(images: OutOfFold) -> pd.DataFrame:
    """Return the bins and the smooth curves of calibration; `n` is missing on curves."""
    bins = analyses.reliability_table(images).assign(kind="bin").astype({"n": "Int64"})
    return pd.concat([bins, analyses.calibration_curve_table(images).assign(kind="smooth")], ignore_index=True)


def _confusion(images: OutOfFold, at_half: pd.DataFrame) -> Figure:
    """Return the confusion matrix at the operating point that a package has if no other is asked for.

    For more than two classes, and where a fold has no threshold, it is that of `at_half`: at probability 0.5 (of the
    most probable class) before calibration.
    """
    points = {point.name: point for point in operating_points(images)}
    if HEADLINE not in points or np.isnan(points[HEADLINE].thresholds).any():
        at_none = at_half.assign(operating_point=None).astype({"operating_point": "str"})
        return figures.confusion(at_none, images.classes, WITHOUT_THRESHOLD[images.is_binary])
    predicted = points[HEADLINE].predicted.astype(int)
    counts = [
        {"label": label, "predicted": other, "n": int(((images.target == k) & (predicted == j)).sum())}
        for k, label in enumerate(images.classes)
        for j, other in enumerate(images.classes)
    ]
    part = "fold" if images.has_folds else "part"
    at = f"at {display_name(HEADLINE)}'s operating point, each {part} at the threshold that the other {part}s choose"
    table = pd.DataFrame(counts).assign(operating_point=HEADLINE).astype({"operating_point": "str"})
    return figures.confusion(table, images.classes, at)


def _mean_threshold(points: pd.DataFrame) -> tuple[str, float] | None:
    """Return the name of the headline operating point and its threshold, the mean over parts; None if it has none."""
    threshold = points.loc[points["operating_point"] == HEADLINE, "threshold"].dropna()
    return (display_name(HEADLINE), float(threshold.iloc[0])) if len(threshold) else None


def _lines(subgroups: pd.DataFrame, is_binary: bool) -> pd.Series:
    """Return the name of each subgroup's row in the figure."""
    where = subgroups["subgroup"] + ": " + subgroups["level"]
    return where if is_binary else subgroups["class"] + ", " + where


def headline_point(drawn: Mapping[str, Figure]) -> OperatingPoint | None:
    """Return the operating point that the confusion matrix among the figures is at; None if it is at none."""
    return HEADLINE if drawn["confusion"].table["operating_point"].notna().all() else None


def undefined(tables: Tables) -> list[str]:
    """Return sentences that say which values or intervals are NaN and why, one per class, place and reason."""
    metrics = tables["metrics"].query("scope != 'mean'").astype({"fold": "string"})
    places = [
        metrics.assign(place=metrics["fold"].map("fold {}".format).where(metrics["fold"].notna(), "all images")),
        tables["operating_points"].assign(place=lambda t: "operating point " + t["operating_point"].map(display_name)),
        tables["subgroups"].assign(place=lambda t: t["subgroup"] + " (" + t["level"] + ")"),
    ]
    rows = pd.concat(places)
    rows = rows[rows["value"].isna() | (rows["ci_low"].isna() & ~rows["metric"].isin(COUNTS))].fillna({"class": ""})
    rows["reason"] = rows["reason"].where(rows["value"].isna(), NO_INTERVAL)
    grouped = rows.groupby(["place", "class", "reason"], sort=False)["metric"].agg(_listed)
    records = grouped.reset_index().to_dict("records")
    return [f"{row['class'] or 'all classes'}, {row['place']}: {row['metric']}: {row['reason']}." for row in records]


def _listed(metrics: pd.Series) -> str:
    return ", ".join(map(display_name, metrics))
