"""What a report shows of predictions, whoever made them: their figures, and which values are undefined."""

import pandas as pd

from cxr.evaluation import analyses
from cxr.evaluation.out_of_fold import OutOfFold
from cxr.metrics.classification import COUNTS
from cxr.report import figures
from cxr.report.drawing import Figure
from cxr.wording import display_name, format_estimate

Tables = dict[str, pd.DataFrame]
NO_INTERVAL = "no interval, because all images are of one patient"
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
    auc = f"{display_name('roc_auc')} {format_estimate(*bounds['roc_auc'].values())} %"
    precision = f"{display_name('average_precision')} {format_estimate(*bounds['average_precision'].values())} %"
    errors = tables["calibration"].set_index(["measure", "stage"])["value"]
    calibrated = f"ECE {errors['ece', 'before']:.3f} before and {errors['ece', 'after']:.3f} after calibration."
    out_of_fold = ", out of fold" if images.has_folds else ""
    drawn = [
        figures.roc(curves["roc"], tables["operating_points"], auc),
        figures.precision_recall(curves["precision_recall"], f"Precision against recall{out_of_fold}; {precision}."),
        figures.confusion(tables["confusion"], images.classes),
        figures.calibration(analyses.reliability_table(images), calibrated),
        figures.scores(
            analyses.score_table(images), "out-of-fold probabilities" if images.has_folds else "probabilities"
        ),
    ]
    if images.has_folds:
        by_fold = metrics[(metrics["scope"] == "fold") & positive]
        by_fold = by_fold.assign(level="fold " + by_fold["fold"].astype("string"))
        drawn.append(figures.forest("folds", "Folds, 95 % intervals", by_fold, "level", FOLD_METRICS))
    subgroups = tables["subgroups"]
    if len(subgroups):
        subgroups = subgroups.assign(line=_lines(subgroups, images.is_binary))
        drawn.append(figures.forest("subgroups", "Subgroups, 95 % intervals", subgroups, "line", FOLD_METRICS))
    if images.is_binary:
        drawn.append(figures.net_benefit(analyses.decision_table(images)))
    return {figure.name: figure for figure in drawn}


def _lines(subgroups: pd.DataFrame, is_binary: bool) -> pd.Series:
    """Return the name of each subgroup's row in the figure."""
    where = subgroups["subgroup"] + ": " + subgroups["level"]
    return where if is_binary else subgroups["class"] + ", " + where


def undefined(tables: Tables) -> list[str]:
    """Return sentences that say which values or intervals are NaN and why, one per class, place and reason."""
    metrics = tables["metrics"].query("scope != 'mean'").astype({"fold": "string"})
    places = [
        metrics.assign(place=metrics["fold"].map("fold {}".format).where(metrics["fold"].notna(), "all images")),
        tables["operating_points"].assign(place=lambda t: "operating point " + t["operating_point"].map(display_name)),
        tables["subgroups"].assign(place=lambda t: t["subgroup"] + " " + t["level"]),
    ]
    rows = pd.concat(places)
    rows = rows[rows["value"].isna() | (rows["ci_low"].isna() & ~rows["metric"].isin(COUNTS))].fillna({"class": ""})
    rows["reason"] = rows["reason"].where(rows["value"].isna(), NO_INTERVAL)
    grouped = rows.groupby(["place", "class", "reason"], sort=False)["metric"].agg(_listed)
    records = grouped.reset_index().to_dict("records")
    return [f"{row['class'] or 'all classes'}, {row['place']}: {row['metric']}: {row['reason']}." for row in records]


def _listed(metrics: pd.Series) -> str:
    return ", ".join(map(display_name, metrics))
