"""The report of a run: one HTML file that needs no network, and its figures and tables as files beside it.

The tables are read as the checks left them; only those behind the figures are computed here. Every number on the page
names the table that it comes from. An analysis that was not done is reported as not done.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from cxr import __version__
from cxr.classes import Classes
from cxr.evaluation import analyses
from cxr.evaluation.out_of_fold import OutOfFold
from cxr.evaluation.outside_tests import is_current
from cxr.evaluation.overview import STARTING_PROJECT
from cxr.evaluation.tables import read_tables
from cxr.metrics.classification import COUNTS
from cxr.report import figures
from cxr.report.cells import Cells
from cxr.report.drawing import Figure
from cxr.report.gallery import gallery, suspects
from cxr.report.guidelines import NOT_APPLICABLE, NOT_DONE, crosswalk
from cxr.report.markup import render
from cxr.storage import events, files, verified
from cxr.storage.run_folder import OutsideTestFolder, RunFolder
from cxr.training.recipe_text import command_of, recipe_sentences
from cxr.training.run import Run, require_complete
from cxr.wording import DISCLAIMER, display_name, format_estimate

log = logging.getLogger(__name__)

Tables = dict[str, pd.DataFrame]
NO_INTERVAL = "no interval, because all images are of one patient"
FOLD_METRICS = ("roc_auc", "sensitivity", "specificity")
REQUESTED = {"stress": "robustness", "learning_curve": "learning-curve"}
"""Tables that a run has only on request, and the sections of the report that show them."""
PUBLISHED = (
    (
        "ResNet-50, five-fold cross-validation (the starting project)",
        "91.5",
        "97.5",
        "91.1",
        "92.4",
        "It is not stated whether all images of a patient are in one fold.",
    ),
    (
        "ResNet-50 fine-tuned, arXiv 2601.00837",
        "99.4",
        "99.9",
        "–",
        "–",
        "A random split by image: images of one patient are on both sides, which inflates every metric.",
    ),
    (
        "ResNet-50 and similar networks on the official test split, usual range",
        "86 to 91",
        "about 97.5",
        "–",
        "62 to 74",
        "At probability 0.5; a range, no single source. The 624 images are harder than a part of the training images.",
    ),
)
"""Published results on the Kaggle set: name, accuracy, ROC-AUC, sensitivity, specificity in %, and a caveat."""


def write_report(run: Run) -> Path:
    """Write the run's report and its figures from the tables that `evaluate` wrote; return the report.

    Raises:
        RunError: a fold is not complete, or the run lacks a table.
    """
    with events.stage(run.folder.events, "report"):
        require_complete(run)
        folder = run.folder
        tables = read_tables(run)
        requested = [name for name in REQUESTED if verified.exists(folder.table(name))]
        tables |= {name: verified.read_table(folder.table(name)) for name in requested}
        images = OutOfFold(verified.read_table(folder.predictions), run.classes)
        drawn = _figures(run, images, tables)
        for figure in drawn.values():
            verified.write_text(folder.figures / f"{figure.name}.svg", figure.svg)
            verified.write_table(folder.figures / f"{figure.name}.parquet", figure.table)
        verified.write_text(folder.report, _page(run, images, tables, drawn))
        log.info("report: %s", folder.report)
        return folder.report


def _page(run: Run, images: OutOfFold, tables: Tables, drawn: Mapping[str, Figure]) -> str:
    folder = run.folder
    tests = {"held_out_test": folder.held_out_test} if verified.exists(folder.held_out_test.openings) else {}
    tests |= {f"external_tests/{test.path.name}": test for test in folder.external_tests()}
    gaps = {f"{name}/gap": _gap(test, tables, folder) for name, test in tests.items()}
    for name, test in tests.items():
        verified.write_table(test.gap, gaps[f"{name}/gap"])
    facts = {file.name: verified.read_json(file) for file in (folder.config, folder.data, folder.certificate)}
    done = {section for table, section in REQUESTED.items() if table in tables}
    done |= {"held-out-test" if name == "held_out_test" else "external" for name in tests}
    return render(
        Path(__file__).with_name("report.html.j2"),
        run=run,
        is_checked=verified.exists(folder.checks_report),
        cells=Cells(_sources(folder, tables, gaps), facts),
        record=facts["config.json"],
        certificate=facts["leakage_certificate.json"],
        made_at=files.now(),
        version=__version__,
        positive=run.classes.headline,
        starting=STARTING_PROJECT if images.is_binary else {},
        counts=COUNTS,
        published=PUBLISHED if images.is_binary and _is_kaggle(run.classes) else (),
        figures=drawn,
        undefined=_undefined(tables),
        most_confident_errors=gallery(run, tables["most_confident_errors"]),
        suspects=suspects(run, tables["label_suspects"]),
        tests={name: _openings(run, test) for name, test in tests.items()},
        crosswalk=crosswalk(done),
        not_done=NOT_DONE,
        not_applicable=NOT_APPLICABLE,
        command=command_of(run.config, folder.run_id),
        recipe=recipe_sentences(run.config),
        display_name=display_name,
        disclaimer=DISCLAIMER,
    )


def _sources(folder: RunFolder, tables: Tables, gaps: Tables) -> dict[str, tuple[str, pd.DataFrame]]:
    """Return the tables that the page takes numbers from, each with its file."""
    named = {name: (folder.table(name), table) for name, table in tables.items()}
    if verified.exists(folder.acquisition_baseline):
        known = verified.read_table(folder.acquisition_baseline)
        named["acquisition_baseline"] = (
            folder.acquisition_baseline,
            known.reindex(columns=[*known.columns.union(["mean", "sd"])]),
        )
    named |= {name: (folder.path / f"{name}.parquet", table) for name, table in gaps.items()}
    return {name: (path.relative_to(folder.path).as_posix(), table) for name, (path, table) in named.items()}


def _figures(run: Run, images: OutOfFold, tables: Tables) -> dict[str, Figure]:
    folder, curves = run.folder, analyses.curve_tables(images)
    metrics = tables["metrics"]
    positive = metrics["class"] == run.classes.headline
    by_fold = metrics[(metrics["scope"] == "fold") & positive]
    by_fold = by_fold.assign(level="fold " + by_fold["fold"].astype("string"))
    pooled = metrics[(metrics["scope"] == "pooled") & positive].set_index("metric")
    epochs = [verified.read_table(folder.fold(fold).epochs) for fold in range(run.config.folds)]
    subgroups = tables["subgroups"]
    subgroups = subgroups.assign(line=_lines(subgroups, images.is_binary))
    bounds = pooled[["value", "ci_low", "ci_high"]].to_dict("index")
    auc = f"{display_name('roc_auc')} {format_estimate(*bounds['roc_auc'].values())} %"
    precision = f"{display_name('average_precision')} {format_estimate(*bounds['average_precision'].values())} %"
    errors = tables["calibration"].set_index(["measure", "stage"])["value"]
    calibrated = f"ECE {errors['ece', 'before']:.3f} before and {errors['ece', 'after']:.3f} after calibration."
    drawn = [
        figures.roc(curves["roc"], tables["operating_points"], auc),
        figures.precision_recall(curves["precision_recall"], f"Precision against recall, out of fold; {precision}."),
        figures.confusion(tables["confusion"], run.classes),
        figures.calibration(analyses.reliability_table(images), calibrated),
        figures.scores(analyses.score_table(images)),
        figures.forest("folds", "Folds, 95 % intervals", by_fold, "level", FOLD_METRICS),
        figures.forest("subgroups", "Subgroups, 95 % intervals", subgroups, "line", FOLD_METRICS),
        figures.training(pd.concat(epochs, ignore_index=True)),
    ]
    if images.is_binary:
        drawn.append(figures.net_benefit(analyses.decision_table(images)))
    shown = run.classes.headline
    for name, draw in (("stress", figures.robustness), ("learning_curve", figures.learning)):
        if name in tables:
            drawn.append(draw(tables[name][tables[name]["class"] == shown], FOLD_METRICS))
    return {figure.name: figure for figure in drawn}


def _lines(subgroups: pd.DataFrame, is_binary: bool) -> pd.Series:
    """Return the name of each subgroup's row in the figure."""
    where = subgroups["subgroup"] + ": " + subgroups["level"]
    return where if is_binary else subgroups["class"] + ", " + where


def _undefined(tables: Tables) -> list[str]:
    """Return sentences that say which values or intervals are NaN and why, one per class, place and reason."""
    metrics = tables["metrics"].query("scope != 'mean'").astype({"fold": "string"})
    places = [
        metrics.assign(place=metrics["fold"].map("fold {}".format).where(metrics["fold"].notna(), "all images")),
        tables["operating_points"].assign(place=lambda t: "operating point " + t["operating_point"].map(display_name)),
        tables["subgroups"].assign(place=lambda t: t["subgroup"] + " " + t["level"]),
    ]
    rows = pd.concat(places).query("value.isna() or (ci_low.isna() and metric not in @COUNTS)").fillna({"class": ""})
    rows["reason"] = rows["reason"].where(rows["value"].isna(), NO_INTERVAL)
    grouped = rows.groupby(["place", "class", "reason"], sort=False)["metric"].agg(_listed)
    records = grouped.reset_index().to_dict("records")
    return [f"{row['class'] or 'all classes'}, {row['place']}: {row['metric']}: {row['reason']}." for row in records]


def _listed(metrics: pd.Series) -> str:
    return ", ".join(map(display_name, metrics))


def _gap(test: OutsideTestFolder, tables: Tables, folder: RunFolder) -> pd.DataFrame:
    """Compare a test outside cross-validation with the cross-validated results: one row per operating point and metric.

    Columns: operating_point, class, metric, inside, inside_low, inside_high, outside, outside_low, outside_high, gap.
    """
    pooled = tables["metrics"].query("scope == 'pooled'").assign(operating_point="")
    points = tables["operating_points"].assign(**{"class": verified.read_record(folder.config)["positive"]})
    inside = pd.concat([points, pooled], ignore_index=True)
    outside = verified.read_table(test.metrics)
    outside = outside[~outside["metric"].isin(COUNTS)]
    has_point = outside["metric"].isin(points["metric"]) & outside["operating_point"].isin(points["operating_point"])
    keys = ["operating_point", "class", "metric"]
    names = {"value": "inside", "ci_low": "inside_low", "ci_high": "inside_high"}
    wanted = outside.assign(at=outside["operating_point"].where(has_point, ""))
    found = inside[[*keys, *names]].rename(columns=names | {"operating_point": "at"})
    renamed = {"value": "outside", "ci_low": "outside_low", "ci_high": "outside_high"}
    table = wanted.rename(columns=renamed).merge(found, on=["at", "class", "metric"], how="left")
    return table.assign(gap=table["outside"] - table["inside"])[[*keys, *names.values(), *renamed.values(), "gap"]]


def _openings(run: Run, test: OutsideTestFolder) -> dict[str, Any]:
    record = verified.read_json(test.openings)["openings"]
    counts = verified.read_table(test.predictions)["label"].value_counts().to_dict()
    return {"name": test.path.name, "openings": record, "counts": counts, "is_current": is_current(run, test)}


def _is_kaggle(classes: Classes) -> bool:
    return classes == ("NORMAL", "PNEUMONIA")
