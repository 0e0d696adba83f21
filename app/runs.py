"""Runs: the results of cross-validation, section by section."""

from collections.abc import Callable
from typing import Any

import pandas as pd
import streamlit as st

from app import run_charts, run_comparison, run_suspects, run_tables, run_threshold, words
from app.charts import NO_BAR
from app.server import Folders
from cxr.evaluation.findings import rows_of
from cxr.evaluation.overview import STARTING_PROJECT, headline, list_runs
from cxr.storage import verified
from cxr.storage.run_folder import RunFolder
from cxr.wording import display_name, format_estimate

FIRST = {
    "cxr demo": "runs the whole pipeline on synthetic images, in minutes;",
    "cxr train --data FOLDER --run-id first": "cross-validates on images of yours.",
}
FOLD_METRICS = ("roc_auc", "sensitivity", "specificity")


def show(folders: Folders) -> None:
    """Show the view."""
    st.title("Runs")
    table = list_runs(folders.experiments)
    if table.empty:
        st.info("There is no run yet. Type in a terminal:\n" + words.first_steps(FIRST))
        return
    formats = dict.fromkeys(STARTING_PROJECT, st.column_config.NumberColumn(format="%.1f"))
    alt = "All runs with their pooled metrics in percent"
    st.dataframe(table[::-1], hide_index=True, column_config=formats, alt=alt)
    newest_first: list[str] = table["run"].tolist()[::-1]
    run_id = str(st.selectbox("Run", newest_first, width=420))
    folder = RunFolder.existing(run_id, folders.experiments)
    if not verified.exists(folder.summary):
        done = table.loc[table["run"] == run_id, "folds"].item()
        name = words.escape(run_id)
        st.info(f"Run {name} is not finished: {done} folds are complete. Rerun the same `cxr train` to resume it.")
        return
    sections: dict[str, Callable[[RunFolder, str | None], None]] = {
        "Metrics": _show_metrics,
        "Threshold": run_threshold.show,
        "Curves": _show_curves,
        "Folds and subgroups": _show_parts,
        "Label suspects": run_suspects.show,
        "Training": lambda folder, _: _show_training(folder),
        "Compare": lambda *_: run_comparison.show(folders.experiments, run_id, newest_first),
    }
    names = list(sections)
    finding = _choose_finding(folder)
    section = st.segmented_control(
        "Section", names, default=names[0], required=True, wrap=True, label_visibility="collapsed"
    )
    sections[section](folder, finding)


def _choose_finding(folder: RunFolder) -> str | None:
    """Return the one of several findings that the visitor chooses; None for a run of classes."""
    findings = run_tables.findings(folder)
    if not findings:
        return None
    return st.selectbox("Finding", findings, format_func=words.escape, width=420)


def _show_chart(figure: Any, alt: str) -> None:
    st.plotly_chart(figure, config=NO_BAR, alt=alt)


def _show_metrics(folder: RunFolder, finding: str | None) -> None:
    st.subheader("Metrics, %")
    rows = headline(folder, finding).set_index("metric") / 100
    shown = pd.DataFrame(
        {
            "mean ± sd over folds": [format_estimate(value, sd=sd) for value, sd in rows[["mean", "sd"]].to_numpy()],
            "pooled [95 %]": [format_estimate(*values) for values in rows[["pooled", "ci_low", "ci_high"]].to_numpy()],
            "starting project": [format_estimate(value) for value in rows["starting_project"]],
        },
        index=[display_name(metric) for metric in rows.index],
    )
    st.table(shown)
    st.caption(
        "At probability 0.5, before calibration. Intervals are from a bootstrap over patients. "
        "The starting project is a ResNet-50 in five-fold cross-validation on the Kaggle set."
    )
    st.subheader("Confusion matrix")
    classes = run_tables.out_of_fold(folder, finding).classes
    figure = run_charts.confusion(rows_of(verified.read_table(folder.confusion), finding), classes)
    _show_chart(figure, "The confusion matrix at probability 0.5")


def _show_curves(folder: RunFolder, finding: str | None) -> None:
    curves = run_tables.table("curves", folder, finding)
    left, right = st.columns(2, gap="large")
    with left:
        st.subheader("ROC")
        figure = run_charts.curve(curves["roc"], "false_positive_rate", "sensitivity", diagonal=True)
        _show_chart(figure, "The ROC curve with its 95 % band")
        st.subheader("Calibration")
        figure = run_charts.calibration(run_tables.table("reliability", folder, finding))
        _show_chart(figure, "Observed shares against predicted probabilities")
    with right:
        st.subheader("Precision and recall")
        figure = run_charts.curve(curves["precision_recall"], "recall", "precision")
        _show_chart(figure, "Precision against recall")
        st.subheader("Calibration errors")
        _show_calibration_errors(folder, finding)
    st.caption("Bands: 95 %, from a bootstrap over patients. Thin lines: folds. All predictions are out of fold.")


def _show_calibration_errors(folder: RunFolder, finding: str | None) -> None:
    errors = run_tables.table("calibration", folder, finding).fillna({"class": "all"})
    errors = errors.assign(measure=errors["measure"].map(display_name), **{"class": errors["class"].map(words.escape)})
    wide = errors.pivot_table(index=["class", "measure"], columns="stage", values="value", sort=False)
    wide = wide.reset_index().set_index("measure")
    st.table(wide.map(lambda value: f"{value:.4f}" if isinstance(value, float) else value))
    st.caption("Brier score: summed over classes; of two classes, twice scikit-learn's brier_score_loss.")


def _show_parts(folder: RunFolder, finding: str | None) -> None:
    classes = run_tables.out_of_fold(folder, finding).classes
    metrics = verified.read_table(folder.metrics)
    by_fold = metrics[(metrics["scope"] == "fold") & (metrics["class"] == classes.headline)]
    by_fold = by_fold.assign(level="fold " + by_fold["fold"].astype("string"))
    st.subheader("Folds")
    _show_chart(run_charts.forest(by_fold, "level", FOLD_METRICS), "Metrics of each fold with intervals")
    _show_levels(by_fold, "level")
    if verified.exists(folder.table("clusters")):
        _show_clusters(verified.read_table(folder.table("clusters")))
    st.subheader("Subgroups")
    subgroups = run_tables.table("subgroups", folder, finding)
    names = subgroups["subgroup"] + ": " + subgroups["level"]
    subgroups = subgroups.assign(line=names if classes.is_binary else subgroups["class"] + ", " + names)
    _show_chart(run_charts.forest(subgroups, "line", FOLD_METRICS), "Metrics of each subgroup with intervals")
    _show_levels(subgroups, "line")


def _show_clusters(table: pd.DataFrame) -> None:
    st.caption("Each fold left out a cluster of images acquired alike, unlike those that its network was trained on.")
    st.subheader("What sets the clusters apart")
    st.dataframe(table, hide_index=True, alt="In what the images of each cluster differ from the others of their class")
    st.caption(
        "Medians (of a category, shares) in the cluster and elsewhere, the largest difference of each class first."
    )


def _show_levels(table: pd.DataFrame, level: str) -> None:
    """Show values with intervals in percent, a row for each level."""
    cells = [format_estimate(*values) for values in table[["value", "ci_low", "ci_high"]].to_numpy()]
    rows = table.assign(cell=cells)
    rows = rows[rows["metric"].isin((*FOLD_METRICS, "accuracy"))]
    wide = rows.pivot_table(index=level, columns="metric", values="cell", aggfunc="first", sort=False)
    n_images = table.drop_duplicates(level).set_index(level)["n"]
    wide.columns = [f"{display_name(name)}, %" for name in wide.columns]
    st.dataframe(wide.assign(images=n_images), alt="The same as a table")


def _show_training(folder: RunFolder) -> None:
    n_folds = verified.read_record(folder.config)["config"]["folds"]
    epochs = pd.concat([verified.read_table(folder.fold(fold).epochs) for fold in range(n_folds)], ignore_index=True)
    _show_chart(run_charts.training(epochs), "Training loss by epoch and fold")
    st.caption("The number of epochs is fixed: nothing is chosen on the images that a fold is evaluated on.")
