"""Runs: the results of cross-validation, section by section."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from app import tables, words
from app.charts import NO_BAR
from app.runs import charts, comparison, errors, results, suspects, threshold
from app.server import Folders
from cxr.classes import outputs_of_record
from cxr.evaluation.findings import rows_of
from cxr.evaluation.overview import headline, list_runs
from cxr.storage import verified
from cxr.storage.run_folder import RunFolder
from cxr.wording import display_name, format_estimate, visible

FIRST = {
    "cxr demo": "runs the whole pipeline on synthetic images, in minutes;",
    "cxr train --data FOLDER --run-id first": "cross-validates on images of yours.",
}
FOLD_METRICS = ("roc_auc", "sensitivity", "specificity")


def show(folders: Folders) -> None:
    """Show the view."""
    st.title("Runs")
    table = list_runs(folders.experiments)[::-1]
    if table.empty:
        st.info("There is no run yet. Type in a terminal:\n" + words.first_steps(FIRST))
        return
    st.caption("Click a row to open its run.")
    row = table.iloc[tables.choose_row(table, "runs", "All runs, the newest first, with their pooled metrics")]
    st.caption(
        "At probability 0.5, before calibration; of the positive class, or means over more than two classes or over "
        "findings."
    )
    folder = RunFolder.existing(str(row["run"]), folders.experiments)
    st.header(words.escape(folder.run_id), anchor=False)
    if verified.exists(folder.summary):
        _show_run(folder, folders.experiments, table["run"].tolist())
    else:
        st.info(
            f"This run is not finished: {row['folds']} folds are complete. Rerun the same `cxr train` to resume it."
        )


def _comparable(folder: RunFolder, experiments: Path, runs: Sequence[str]) -> list[str]:
    """Return the other runs that are finished, have the same classes or findings, and images in common."""
    outputs = outputs_of_record(verified.read_record(folder.config))
    others = [RunFolder.existing(name, experiments) for name in runs if name != folder.run_id]
    finished = [other for other in others if verified.exists(other.summary)]
    alike = [other for other in finished if outputs_of_record(verified.read_record(other.config)) == outputs]
    return [other.run_id for other in alike if results.have_common_images(folder, other)]


def _show_run(folder: RunFolder, experiments: Path, all_runs: list[str]) -> None:
    finding = _choose_finding(folder)
    _offer_reports(folder, finding)
    if _left_out_clusters(folder):
        st.warning(
            "Each fold left out a cluster of images acquired unlike those that its network was trained on. So all "
            "figures are pessimistic for images like the training images; do not compare them with those of a run "
            "whose folds left out patients at random."
        )
    sections: dict[str, Callable[[RunFolder, str | None], None]] = {
        "Metrics": _show_metrics,
        "Threshold": threshold.show,
        "Curves": _show_curves,
        "Folds and subgroups": _show_parts,
        "Errors": errors.show,
        "Label suspects": suspects.show,
        "Training": lambda folder, _: _show_training(folder),
        "Compare": lambda folder, _: comparison.show(
            experiments, folder.run_id, _comparable(folder, experiments, all_runs)
        ),
    }
    names = list(sections)
    section = st.pills(  # a segmented control that wraps lacks some of its borders
        "Section", names, default=names[0], required=True, wrap=True, label_visibility="collapsed"
    )
    sections[section](folder, finding)


def _choose_finding(folder: RunFolder) -> str | None:
    """Return the one of several findings that the visitor chooses; None for a run of classes."""
    findings = results.findings(folder)
    if not findings:
        return None
    return st.selectbox("Finding", findings, format_func=visible, width=420)


def _offer_reports(folder: RunFolder, finding: str | None) -> None:
    """Offer the report, and the page of a finding; under the names that they have on disk, so that their links work."""
    reports = {"Report": folder.report}
    if finding is not None:
        number = results.findings(folder).index(finding) + 1
        reports[f"Report, {words.escape(finding)}"] = folder.report_of(number, finding)
    with st.container(horizontal=True):
        for label, report in reports.items():
            if verified.exists(report):
                read = partial(verified.read_bytes, report)
                st.download_button(f"{label} (HTML)", read, report.name, "text/html", on_click="ignore")
    if not verified.exists(folder.report):
        st.markdown("The run has no report yet: `cxr report` writes it.")


def _show_chart(figure: Any, alt: str) -> None:
    st.plotly_chart(figure, config=NO_BAR, alt=alt)


def _show_metrics(folder: RunFolder, finding: str | None) -> None:
    st.subheader("Metrics, %")
    rows = headline(folder, finding).set_index("metric") / 100
    shown = pd.DataFrame(
        {
            "mean ± sd over folds": [format_estimate(value, sd=sd) for value, sd in rows[["mean", "sd"]].to_numpy()],
            "pooled [95%]": [format_estimate(*values) for values in rows[["pooled", "ci_low", "ci_high"]].to_numpy()],
        },
        index=[display_name(metric) for metric in rows.index],
    )
    about = (
        "At probability 0.5, before calibration, as the literature reports them; Threshold has the calibrated "
        "probabilities, which a package predicts with. Intervals are from a bootstrap over patients."
    )
    if rows["starting_project"].notna().any():
        shown["starting project"] = [format_estimate(value) for value in rows["starting_project"]]
        about += " The starting project is a ResNet-50 in five-fold cross-validation on this data set."
    st.table(shown)
    st.caption(about)
    st.subheader("Confusion matrix at probability 0.5, before calibration")
    classes = results.out_of_fold(folder, finding).classes
    figure = charts.confusion(rows_of(verified.read_table(folder.confusion), finding), classes)
    _show_chart(figure, "The confusion matrix at probability 0.5, before calibration")


def _show_curves(folder: RunFolder, finding: str | None) -> None:
    curves = results.table("curves", folder, finding)
    left, right = st.columns(2, gap="medium")
    with left:
        st.subheader("ROC")
        figure = charts.curve(curves["roc"], "false_positive_rate", "sensitivity", diagonal=True)
        _show_chart(figure, "The ROC curve with its 95% band")
        st.subheader("Calibration")
        figure = charts.calibration(results.table("reliability", folder, finding))
        _show_chart(figure, "Observed shares against predicted probabilities")
    with right:
        st.subheader("Precision and recall")
        figure = charts.curve(curves["precision_recall"], "recall", "precision")
        _show_chart(figure, "Precision against recall")
        st.subheader("Calibration errors")
        _show_calibration_errors(folder, finding)
    st.caption("Bands: 95%, from a bootstrap over patients. Thin lines: folds. All predictions are out of fold.")


def _show_calibration_errors(folder: RunFolder, finding: str | None) -> None:
    table = results.table("calibration", folder, finding).fillna({"class": "all"})
    table = table.assign(measure=table["measure"].map(display_name), **{"class": table["class"].map(words.escape)})
    wide = table.pivot_table(index=["class", "measure"], columns="stage", values="value", sort=False)
    wide = wide.reset_index().set_index("measure")
    st.table(wide.map(lambda value: f"{value:.4f}" if isinstance(value, float) else value))
    st.caption("Brier score: summed over classes; of two classes, twice scikit-learn's brier_score_loss.")


def _show_parts(folder: RunFolder, finding: str | None) -> None:
    classes = results.out_of_fold(folder, finding).classes
    metrics = verified.read_table(folder.metrics)
    by_fold = metrics[(metrics["scope"] == "fold") & (metrics["class"] == classes.headline)]
    by_fold = by_fold.assign(level="fold " + by_fold["fold"].astype("string"))
    st.subheader("Folds")
    _show_chart(charts.forest(by_fold, "level", FOLD_METRICS), "Metrics of each fold with intervals")
    _show_levels(by_fold, "level", "Fold")
    if _left_out_clusters(folder):
        _show_clusters(verified.read_table(folder.table("clusters")))
    st.subheader("Subgroups")
    subgroups = results.table("subgroups", folder, finding)
    names = subgroups["subgroup"] + ": " + subgroups["level"]
    subgroups = subgroups.assign(line=names if classes.is_binary else subgroups["class"] + ", " + names)
    _show_chart(charts.forest(subgroups, "line", FOLD_METRICS), "Metrics of each subgroup with intervals")
    _show_levels(subgroups, "line", "Subgroup")


def _left_out_clusters(folder: RunFolder) -> bool:
    """Return whether each fold of a run left out a cluster of images acquired alike, rather than patients at random."""
    return verified.exists(folder.table("clusters"))


def _show_clusters(table: pd.DataFrame) -> None:
    st.subheader("How clusters differ")
    shown = table.assign(measure=table["measure"].map(words.measure_name))
    tables.show(shown, "In what the images of each cluster differ from the others of their class")
    st.caption(
        "Medians (of a category, shares) in the cluster and in the others, of images of the same class; the largest "
        "difference first. 0: the two do not differ; 1: they do not overlap (Kolmogorov-Smirnov)."
    )


def _show_levels(table: pd.DataFrame, level: str, heading: str) -> None:
    """Show values with intervals in percent, a row for each level, under a heading."""
    cells = [format_estimate(*values) for values in table[["value", "ci_low", "ci_high"]].to_numpy()]
    rows = table.assign(cell=cells)
    rows = rows[rows["metric"].isin((*FOLD_METRICS, "accuracy"))]
    wide = rows.pivot_table(index=level, columns="metric", values="cell", aggfunc="first", sort=False)
    n_images = table.drop_duplicates(level).set_index(level)["n"]
    wide.columns = [tables.label_of(f"{display_name(name)}, %") for name in wide.columns]
    wide.index.name = heading
    shown = wide.assign(n_images=n_images)
    st.dataframe(
        shown, column_config=tables.headings(shown.columns), placeholder=tables.MISSING, alt="The same as a table"
    )


def _show_training(folder: RunFolder) -> None:
    n_folds = verified.read_record(folder.config)["config"]["folds"]
    epochs = pd.concat([verified.read_table(folder.fold(fold).epochs) for fold in range(n_folds)], ignore_index=True)
    _show_chart(charts.training(epochs), "Training loss by epoch and fold")
    st.caption("The number of epochs is fixed: nothing is chosen on the images that a fold is evaluated on.")
