"""Runs: what cross-validation found, at any threshold, and beside another run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from app import charts, words
from app.server import Folders
from cxr.classes import Classes
from cxr.errors import CxrError
from cxr.evaluation import analyses
from cxr.evaluation.comparison import Comparison, compare
from cxr.evaluation.out_of_fold import OutOfFold
from cxr.evaluation.overview import STARTING_PROJECT, headline, list_runs
from cxr.evaluation.subgroups import subgroup_table
from cxr.metrics.classification import rates_at
from cxr.report.wording import said
from cxr.storage import files
from cxr.storage.run_folder import RunFolder

FIRST = {
    "cxr demo": "runs the whole pipeline on drawn images, in minutes;",
    "cxr train --data FOLDER --run-id first": "cross-validates on images of yours.",
}
FOLD_METRICS = ("roc_auc", "sensitivity", "specificity")
KEPT = 4
"""Runs whose tables stay in memory."""
NAMED: dict[str | type[Any], Callable[[Any], Any]] = {RunFolder: lambda folder: str(folder.path)}
"""How Streamlit tells runs apart: it cannot look into a path in an object store."""


def show(folders: Folders) -> None:
    """Show the view."""
    st.title("Runs")
    table = list_runs(folders.experiments)
    if table.empty:
        st.info("There is no run yet. Type in a terminal:\n" + words.first_steps(FIRST))
        return
    _list(table)
    newest_first: list[str] = table["run"].tolist()[::-1]
    run_id = str(st.selectbox("Run", newest_first, width=420))
    folder = RunFolder.named(folders.experiments, run_id)
    if not folder.summary.exists():
        done = table.loc[table["run"] == run_id, "folds"].item()
        st.info(f"Run {words.plain(run_id)} is not finished: {done} folds are. The same `cxr train` goes on with it.")
        return
    sections = {
        "Metrics": _metrics,
        "Threshold": _threshold,
        "Curves": _curves,
        "Folds and subgroups": _parts,
        "Training": _training,
    }
    names = [*sections, "Compare"]
    section = st.segmented_control(
        "Show", names, default=names[0], required=True, wrap=True, label_visibility="collapsed"
    )
    if section == "Compare":
        _compare(folders.experiments, run_id, newest_first)
    else:
        sections[section](folder)


def _list(table: pd.DataFrame) -> None:
    number = st.column_config.NumberColumn(format="%.1f")
    numbers = dict.fromkeys(STARTING_PROJECT, number)
    st.dataframe(
        table[::-1], hide_index=True, column_config=numbers, alt="All runs with their pooled metrics in percent"
    )


def _out_of_fold(folder: RunFolder) -> OutOfFold:
    return _read(folder, folder.predictions.stat().st_mtime_ns)


@st.cache_resource(max_entries=KEPT, show_spinner="Reading the run …", hash_funcs=NAMED)
def _read(folder: RunFolder, changed_ns: int) -> OutOfFold:
    """Return a run's out-of-fold table; read again when it has changed."""
    return OutOfFold(files.read_table(folder.predictions), Classes(files.read_record(folder.config)["classes"]))


@st.cache_data(max_entries=8 * KEPT, show_spinner="Computing …", hash_funcs=NAMED)
def _appraise(table: str, folder: RunFolder, changed_ns: int) -> Any:
    """Return one of the core's tables of a run."""
    images = _read(folder, changed_ns)
    if table == "subgroups":
        return subgroup_table(images, files.read_table(folder.manifest))
    compute = {
        "curves": analyses.curve_tables,
        "reliability": analyses.reliability_table,
        "points": analyses.operating_point_table,
        "scores": analyses.score_table,
        "calibration": analyses.calibration_table,
    }
    return compute[table](images)


def _table(table: str, folder: RunFolder) -> Any:
    return _appraise(table, folder, folder.predictions.stat().st_mtime_ns)


def _metrics(folder: RunFolder) -> None:
    st.subheader("Metrics, %")
    rows = headline(folder).set_index("metric") / 100
    shown = pd.DataFrame(
        {
            "mean ± sd over folds": [words.percent(v, sd=sd) for v, sd in rows[["mean", "sd"]].to_numpy()],
            "pooled [95 %]": [words.percent(*v) for v in rows[["pooled", "ci_low", "ci_high"]].to_numpy()],
            "starting project": [words.percent(v) for v in rows["starting_project"]],
        },
        index=[said(metric) for metric in rows.index],
    )
    st.table(shown)
    st.caption(
        "Images are called at 0.5 on the networks' own probability. Intervals are from a bootstrap over patients. "
        "The starting project is a ResNet-50 in five-fold cross-validation on the Kaggle set."
    )
    st.subheader("Confusion matrix")
    classes = _out_of_fold(folder).classes
    _chart(charts.confusion(files.read_table(folder.confusion), classes), "The confusion matrix at probability 0.5")


def _chart(figure: Any, alt: str) -> None:
    st.plotly_chart(figure, config=charts.NO_BAR, alt=alt)


@st.fragment
def _threshold(folder: RunFolder) -> None:
    """Show what calling images from a threshold up does; moving the slider computes this anew and nothing else."""
    images = _out_of_fold(folder)
    names = [name for name, _, _ in images.one_vs_rest()]
    name = names[0] if len(names) == 1 else st.selectbox("Class", names, width=420)
    truth, column = next((truth, column) for one, truth, column in images.one_vs_rest() if one == name)
    threshold = st.slider(
        f"An image is called {words.plain(name)} from this probability up", 0.0, 1.0, 0.5, 0.005, format="%.3f"
    )
    rates = rates_at(truth, images.calibrated[:, column], threshold)
    shown = {"sensitivity": "Sensitivity", "specificity": "Specificity", "ppv": "PPV", "npv": "NPV"}
    with st.container(horizontal=True):
        for metric, words_ in shown.items():
            st.metric(words_, f"{words.percent(rates[metric].value)} %", border=True, help=rates[metric].reason)
    counts = {
        key: int(rates[key].value) for key in ("true_positive", "false_negative", "false_positive", "true_negative")
    }
    other = "another" if len(images.classes) > 2 else images.classes[0]
    matrix = pd.DataFrame(
        {
            f"called {name}": [counts["true_positive"], counts["false_positive"]],
            f"called {other}": [counts["false_negative"], counts["true_negative"]],
        },
        index=[f"{name} images", f"{other} images"],
    )
    left, right = st.columns(2, gap="large")
    with left:
        st.table(matrix)
        st.caption(
            "Out of fold, with probabilities calibrated on the other folds, as a packaged model gives them. "
            f"PPV and NPV are those where {truth.mean():.0%} of the images are {words.plain(name)}, as here."
        )
        _operating_points(folder)
    with right:
        histogram = _table("scores", folder).query("`class` == @name")
        _chart(charts.histogram(histogram, threshold), "Calibrated probabilities by true class, with the threshold")


def _operating_points(folder: RunFolder) -> None:
    points = _table("points", folder)
    if points.empty:
        return
    thresholds = points.drop_duplicates("operating_point")
    wide = points.pivot_table(index="operating_point", columns="metric", values="value", sort=False)
    shown = pd.DataFrame(
        {
            "threshold": [f"{value:.3f}" for value in thresholds["threshold"]],
            "sensitivity, %": [words.percent(v) for v in wide["sensitivity"]],
            "specificity, %": [words.percent(v) for v in wide["specificity"]],
        },
        index=[said(name) for name in thresholds["operating_point"]],
    )
    st.markdown("**Operating points**, each chosen on the other folds")
    st.table(shown)


def _curves(folder: RunFolder) -> None:
    curves = _table("curves", folder)
    left, right = st.columns(2, gap="large")
    with left:
        st.subheader("ROC")
        figure = charts.curve(curves["roc"], "false_positive_rate", "sensitivity", diagonal=True)
        _chart(figure, "The ROC curve with its 95 % band")
        st.subheader("Calibration")
        _chart(charts.calibration(_table("reliability", folder)), "Observed shares against predicted probabilities")
    with right:
        st.subheader("Precision and recall")
        _chart(charts.curve(curves["precision_recall"], "recall", "precision"), "Precision against recall")
        st.subheader("Calibration errors")
        errors = _table("calibration", folder).fillna({"class": "all"})
        errors = errors.assign(measure=errors["measure"].map(said))
        wide = errors.pivot_table(index=["class", "measure"], columns="stage", values="value", sort=False)
        st.table(wide.reset_index().set_index("measure").map(lambda v: f"{v:.4f}" if isinstance(v, float) else v))
    st.caption("Bands: 95 %, from a bootstrap over patients. Thin lines: folds. All images out of fold.")


def _parts(folder: RunFolder) -> None:
    images, metrics = _out_of_fold(folder), files.read_table(folder.metrics)
    name = images.classes[1] if images.is_binary else "macro"
    by_fold = metrics[(metrics["scope"] == "fold") & (metrics["class"] == name)]
    by_fold = by_fold.assign(level="fold " + by_fold["fold"].astype("string"))
    st.subheader("Folds")
    _chart(charts.forest(by_fold, "level", FOLD_METRICS), "Metrics of each fold with intervals")
    _wide(by_fold, "level")
    st.subheader("Subgroups")
    subgroups = _table("subgroups", folder)
    where = subgroups["subgroup"] + ": " + subgroups["level"]
    subgroups = subgroups.assign(line=where if images.is_binary else subgroups["class"] + ", " + where)
    _chart(charts.forest(subgroups, "line", FOLD_METRICS), "Metrics of each subgroup with intervals")
    _wide(subgroups, "line")


def _wide(table: pd.DataFrame, level: str) -> None:
    """Show values with intervals in percent, a row for each level."""
    cells = table.assign(cell=[words.percent(*v) for v in table[["value", "ci_low", "ci_high"]].to_numpy()])
    wide = cells[cells["metric"].isin((*FOLD_METRICS, "accuracy"))]
    wide = wide.pivot_table(index=level, columns="metric", values="cell", aggfunc="first", sort=False)
    n_images = table.drop_duplicates(level).set_index(level)["n"]
    wide.columns = [f"{said(name)}, %" for name in wide.columns]
    st.dataframe(wide.assign(images=n_images), alt="The same as a table")


def _training(folder: RunFolder) -> None:
    n_folds = files.read_record(folder.config)["config"]["folds"]
    epochs = pd.concat([files.read_table(folder.fold(fold).epochs) for fold in range(n_folds)], ignore_index=True)
    _chart(charts.training(epochs), "Training loss by epoch and fold")
    st.caption("The number of epochs is fixed: nothing is chosen on the images that a fold is judged on.")


def _compare(experiments: Path, run_id: str, all_runs: list[str]) -> None:
    others = [one for one in all_runs if one != run_id]
    if not others:
        st.info("There is no other run to compare with.")
        return
    other = st.selectbox(f"Compare {words.plain(run_id)} with", others, width=420)
    folders = [RunFolder.named(experiments, one) for one in (run_id, other)]
    try:
        changed = [folder.predictions.stat().st_mtime_ns if folder.predictions.exists() else 0 for folder in folders]
        compared = _compared(folders, changed)
    except CxrError as error:
        st.error(words.plain(str(error)))
        return
    left_out = ", ".join(f"{n:,} more in {words.plain(name)}" for name, n in compared.n_others.items() if n)
    st.markdown(f"{compared.n_images:,} images in common" + (f"; {left_out} are left out." if left_out else "."))
    st.table(_differences(compared.metrics, run_id, other))
    st.markdown(f"**{len(compared.changed):,} images** are not called alike")
    if len(compared.changed):
        st.dataframe(compared.changed.drop(columns="image_id"), hide_index=True, alt="Images that are not called alike")


def _differences(rows: pd.DataFrame, run_id: str, other: str) -> pd.DataFrame:
    """Return each metric of two runs in percent, and how they differ."""
    first, second = (rows[rows["run"] == one].set_index(["class", "metric"]) for one in (run_id, other))
    one_class = second.index.get_level_values("class").dropna().nunique() < 2
    names = [said(m) if one_class or pd.isna(name) else f"{said(m)}, {name}" for name, m in second.index]
    differences = second[["difference", "ci_low", "ci_high"]].to_numpy()
    tests = zip(second["p_value"], second["test"], strict=True)
    columns = {
        f"{run_id}, %": [words.percent(value) for value in first["value"]],
        f"{other}, %": [words.percent(value) for value in second["value"]],
        "difference, points [95 %]": [words.percent(*values) for values in differences],
        "p": ["–" if pd.isna(p) else f"{p:.3g} ({test})" for p, test in tests],
    }
    return pd.DataFrame(columns, index=names)


@st.cache_resource(max_entries=KEPT, show_spinner="Comparing …", hash_funcs=NAMED)
def _compared(folders: list[RunFolder], changed_ns: list[int]) -> Comparison:
    return compare(folders)
