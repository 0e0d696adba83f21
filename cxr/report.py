"""The report of a run: tables and figures in one HTML file that needs no network, and each of them as a file.

Every number is recomputed from the out-of-fold table; what was not done is written down as not done.
"""

import dataclasses
import logging
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cxr import __version__, appraisal, dataset, evaluation, events, figures, store
from cxr.appraisal import OutOfFold
from cxr.config import TrainConfig
from cxr.errors import DataError, RunError, UnreadableError
from cxr.experiment import Experiment
from cxr.explain import grad_cam, overlay
from cxr.figures import Figure, said
from cxr.inference import read_weights
from cxr.layout import RunFolder, TestFolder
from cxr.metrics import COUNTS
from cxr.model import Classifier
from cxr.page import render, thumbnail
from cxr.sealed_test import is_current

log = logging.getLogger(__name__)

GALLERY_PX = 220
Rows = list[dict[Any, Any]]
"""Rows of a table as the page's template takes them."""
FOLD_METRICS = ("roc_auc", "sensitivity", "specificity")
PUBLISHED = (
    ("ResNet-50, five-fold cross-validation (the starting project)", 0.915, 0.975, 0.911, 0.924,
     "Whether films of a patient were kept in one fold is not stated."),
    ("ResNet-50 fine-tuned, arXiv 2601.00837", 0.994, 0.999, None, None,
     "A random split by film: films of a patient stand on both sides, which flatters every figure."),
)  # fmt: skip
"""Name, accuracy, ROC-AUC, sensitivity, specificity, and what to know when comparing; all on the Kaggle set."""


def write_report(run: Experiment) -> Path:
    """Write the run's report, its figures and the tables behind them; return the report.

    Raises:
        RunError: a fold is not complete, or the run has no tables.
    """
    with events.stage(run.folder.events, "report"):
        evaluation.require_complete(run)
        folder = run.folder
        if not folder.predictions.exists():
            raise RunError(f"run {folder.run_id!r} has no tables yet: type `cxr evaluate {folder.run_id}`.")
        films = OutOfFold(store.read_table(folder.predictions), run.classes)
        tables = _tables(films, folder)
        for name, table in tables.items():
            store.write_table(folder.appraisal(name), table)
        drawn = _figures(run, films, tables)
        for figure in drawn.values():
            store.write_text(folder.figures / f"{figure.name}.svg", figure.svg)
            store.write_table(folder.figures / f"{figure.name}.parquet", figure.table)
        store.write_text(folder.report, _page(run, films, tables, drawn))
        log.info("report: %s", folder.report)
        return folder.report


def _page(run: Experiment, films: OutOfFold, tables: Mapping[str, pd.DataFrame], drawn: Mapping[str, Figure]) -> str:
    folder = run.folder
    return render(
        Path(__file__).with_name("report.html.j2"),
        run=run,
        record=store.read_json(folder.config),
        certificate=store.read_json(folder.certificate),
        data=store.read_json(folder.data),
        is_checked=folder.checks_report.exists(),
        made_at=store.now(),
        version=__version__,
        headline=evaluation.headline(folder).to_dict("records"),
        published=PUBLISHED if films.is_binary and _is_kaggle(run.classes) else (),
        figures=drawn,
        calibration=_wide(tables["calibration"].fillna({"class": "all"}), ["class", "measure"], "stage"),
        points=_points(tables["operating_points"]),
        predictive=_predictive(tables["predictive_values"]),
        subgroups=tables["subgroups"].to_dict("records"),
        undefined=_undefined(folder),
        confounders=_confounders(folder),
        failures=_gallery(run, films, tables["failures"]),
        sealed=_test(run, folder.sealed_test, tables) if folder.sealed_test.openings.exists() else None,
        external=[_test(run, test, tables) for test in folder.external_tests()],
        drift=_drift_reference(folder),
        command=command_of(run.config, folder.run_id),
        n_judged=len(films.predictions),
        said=said,
        percent=percent,
    )


def _tables(films: OutOfFold, folder: RunFolder) -> dict[str, pd.DataFrame]:
    return {
        "calibration": appraisal.calibration_table(films),
        "operating_points": appraisal.operating_point_table(films),
        "predictive_values": appraisal.predictive_value_table(films),
        "subgroups": appraisal.subgroup_table(films, store.read_table(folder.manifest)),
        "failures": appraisal.failure_table(films),
    }


def _figures(run: Experiment, films: OutOfFold, tables: Mapping[str, pd.DataFrame]) -> dict[str, Figure]:
    folder, curves = run.folder, appraisal.curve_tables(films)
    metrics = store.read_table(folder.metrics)
    positive = metrics["class"] == (run.classes[1] if films.is_binary else "macro")
    by_fold = metrics[(metrics["scope"] == "fold") & positive]
    by_fold = by_fold.assign(level="fold " + by_fold["fold"].astype("string"))
    pooled = metrics[(metrics["scope"] == "pooled") & positive].set_index("metric")
    epochs = [store.read_table(folder.fold(fold).epochs) for fold in range(run.config.folds)]
    subgroups = tables["subgroups"]
    subgroups = subgroups.assign(line=_lines(subgroups, films.is_binary))
    auc, precision = (f"{said(m)} {_interval(pooled.loc[m])} %" for m in ("roc_auc", "average_precision"))
    errors = tables["calibration"].set_index(["measure", "stage"])["value"]
    calibrated = f"ECE {errors['ece', 'before']:.3f} before and {errors['ece', 'after']:.3f} after calibration."
    drawn = [
        figures.roc(curves["roc"], tables["operating_points"], auc),
        figures.precision_recall(curves["precision_recall"], f"Precision against recall, out of fold; {precision}."),
        figures.confusion(store.read_table(folder.confusion), run.classes),
        figures.calibration(appraisal.reliability_table(films), calibrated),
        figures.scores(appraisal.score_table(films)),
        figures.forest("folds", "Folds, 95 % intervals", by_fold, "level", FOLD_METRICS),
        figures.forest("subgroups", "Subgroups, 95 % intervals", subgroups, "line", FOLD_METRICS),
        figures.training(pd.concat(epochs, ignore_index=True)),
    ]
    if films.is_binary:
        drawn.append(figures.net_benefit(appraisal.decision_table(films)))
    return {figure.name: figure for figure in drawn}


def _lines(subgroups: pd.DataFrame, is_binary: bool) -> pd.Series:
    """Return what a subgroup's line is called."""
    where = subgroups["subgroup"] + ": " + subgroups["level"]
    return where if is_binary else subgroups["class"] + ", " + where


def percent(value: float | None, decimals: int = 1) -> str:
    """Return a share in percent; – where there is none."""
    return "–" if value is None or np.isnan(value) else f"{100 * value:.{decimals}f}"


def _interval(row: Any) -> str:
    return f"{percent(row['value'])} [{percent(row['ci_low'])}, {percent(row['ci_high'])}]"


def _wide(table: pd.DataFrame, keys: list[str], across: str) -> Rows:
    wide = table.pivot_table(index=keys, columns=across, values="value", sort=False, dropna=False)
    return wide.dropna(how="all").reset_index().to_dict("records")


def _points(table: pd.DataFrame) -> Rows:
    """Return one row per operating point, its metrics as texts."""
    rows = []
    for name, of in table.groupby("operating_point", sort=False):
        first = of.iloc[0]
        cells = {row["metric"]: _interval(row) for _, row in of.iterrows()}
        spread = f"{first['threshold']:.3f} ({first['threshold_low']:.3f} to {first['threshold_high']:.3f})"
        rows.append({"name": said(name), "threshold": spread, "cells": cells})
    return rows


def _predictive(table: pd.DataFrame) -> dict[str, Any]:
    """Return prevalences, and one row per operating point and metric, values as texts."""
    shares = table.drop_duplicates("prevalence")[["prevalence", "is_own"]]
    heads = [f"{p:.0%}" + (" (this set)" if own else "") for p, own in shares.itertuples(index=False)]
    rows = [
        {"name": said(point), "metric": said(metric), "cells": [_interval(row) for _, row in of.iterrows()]}
        for (point, metric), of in table.groupby(["operating_point", "metric"], sort=False)
    ]
    return {"heads": heads, "rows": rows}


def _undefined(folder: RunFolder) -> Rows:
    """Return the metrics that are NaN, with their reasons."""
    metrics = store.read_table(folder.metrics)
    missing = metrics[metrics["value"].isna()].astype({"fold": object})
    rows = missing[["scope", "fold", "class", "metric", "reason"]]
    return rows.where(rows.notna(), None).to_dict("records")


def _confounders(folder: RunFolder) -> Rows:
    if not folder.confounders.exists():
        return []
    table = store.read_table(folder.confounders)
    return table[table["metric"] == "roc_auc"][["features", "value"]].to_dict("records")


def _test(run: Experiment, folder: TestFolder, tables: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """Return a test on films outside cross-validation, beside what was found inside it."""
    pooled = store.read_table(run.folder.metrics).query("scope == 'pooled'")
    inside = pd.concat([tables["operating_points"], pooled], ignore_index=True).fillna({"class": "", "threshold": 0.0})
    rows = []
    for _, row in store.read_table(folder.metrics).iterrows():
        of_metric = inside[inside["metric"] == row["metric"]]
        at_point = of_metric[of_metric["operating_point"] == row["operating_point"]]
        of_class = of_metric[of_metric["scope"].eq("pooled") & of_metric["class"].eq(row["class"])]
        internal = at_point if len(at_point) else of_class
        gap = row["value"] - internal["value"].iloc[0] if len(internal) else float("nan")
        rows.append({
            "point": said(row["operating_point"]), "class": row["class"], "metric": row["metric"],
            "internal": _interval(internal.iloc[0]) if len(internal) else "–", "official": _interval(row), "gap": gap,
        })  # fmt: skip
    record = store.read_json(folder.openings)["openings"]
    predictions = store.read_table(folder.predictions)
    counts = predictions["label"].value_counts().to_dict()
    return {
        "name": folder.path.name, "rows": [r for r in rows if r["metric"] not in COUNTS], "openings": record,
        "counts": counts, "is_current": is_current(run, folder),
    }  # fmt: skip


def _drift_reference(folder: RunFolder) -> Rows:
    """Return quantiles of what later films are compared with, over the used films."""
    manifest = store.read_table(folder.manifest)
    used = manifest[manifest["status"] == "used"]
    names = ("width", "height", "mean", "contrast", "border")
    return [{"name": name, **used[name].astype(float).quantile([0.05, 0.5, 0.95]).to_dict()} for name in names]


def _is_kaggle(classes: list[str]) -> bool:
    return classes == ["NORMAL", "PNEUMONIA"]


def _gallery(run: Experiment, films: OutOfFold, failures: pd.DataFrame) -> Rows:
    """Return the worst errors, each with the film and what the fold that never saw it looked at.

    The picture is missing where the film is gone since.
    """
    index = {name: k for k, name in enumerate(run.classes)}
    shown: dict[str, tuple[str, str]] = {}
    read = None
    for fold, rows in failures.groupby("fold"):
        model = Classifier(len(run.classes))
        model.load_state_dict(read_weights(run, int(str(fold))))
        try:
            read = read or dataset.read_pictures(run.config, GALLERY_PX)
            heat = grad_cam([model], run.squares(rows), rows["called"].map(index).to_numpy().astype(np.int64))
            for row, one in zip(rows.itertuples(), heat, strict=True):
                grey = read(str(row.path), str(row.image_id)).grey
                laid_over = overlay(np.asarray(grey), one)
                shown[str(row.path)] = thumbnail(grey, GALLERY_PX), thumbnail(laid_over, GALLERY_PX)
        except (DataError, UnreadableError) as error:
            log.warning("no pictures of the errors of fold %s: %s", fold, error)
    rows = failures.to_dict("records")
    return [row | {"pictures": shown.get(str(row["path"]), ())} for row in rows]


def command_of(config: TrainConfig, run_id: str) -> str:
    """Return the command that makes the run again: what differs from the defaults; data and weights by name alone."""
    default = {field.name: field.default for field in dataclasses.fields(config)}
    words = ["cxr", "train", "--data", Path(config.data).name]
    for name, value in config.as_dict().items():
        if name == "data" or value == default[name]:
            continue
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}", Path(str(value)).name if name == "weights" else str(value)]
    return shlex.join([*words, "--run-id", run_id])
