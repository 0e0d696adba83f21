"""The tables that a command prints when it has finished."""

import math
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from cxr.classes import Classes
from cxr.wording import DISCLAIMER, format_estimate

if TYPE_CHECKING:
    import pandas as pd

    from cxr.evaluation.comparison import Comparison
    from cxr.serving.package import Package
    from cxr.storage.run_folder import ExplanationFolder, RunFolder
    from cxr.storage.scores_folder import ScoringRunFolder


def show_results(folder: "RunFolder") -> None:
    """Print the run's metrics in percent, where its tables are, and a query that reads them."""
    from cxr.evaluation.overview import headline  # brings torch along, which `--help` does not wait for

    table = Table(title=f"{folder.run_id}: out-of-fold metrics, %", title_justify="left")
    for column in ("metric", "mean ± sd", "pooled [95 %]", "starting project"):
        table.add_column(column, justify="left" if column == "metric" else "right")
    for row in headline(folder).to_dict("records"):
        mean = format_estimate(row["mean"], sd=row["sd"], scale=1)
        pooled = format_estimate(row["pooled"], row["ci_low"], row["ci_high"], scale=1)
        table.add_row(row["metric"], mean, pooled, format_estimate(row["starting_project"], scale=1))
    Console(width=max(80, Console().width)).print(table)
    print(DISCLAIMER)
    print(f"run      {folder.path}")
    print(f"tables   {folder.metrics.parent}")
    checks = folder.checks_report
    print(f"checks   {checks if checks.exists() else 'not made: `cxr validate` judges the images'}")
    if folder.report.exists():
        print(f"report   {folder.report}")
    print(f"query    duckdb -c \"SELECT metric, pooled FROM '{folder.summary}'\"")


def show_checks(folder: "RunFolder") -> None:
    """Print what the data checks found, what acquisition alone predicts, and where the report is."""
    from cxr.storage import files

    data = files.read_json(folder.data)
    print("images    " + " → ".join(f"{n:,} {name}" for name, n in data["images"].items()))
    print(
        "copies   {groups} byte-identical groups ({images} images), {across_classes} across classes".format(
            **data["identical"]
        )
    )
    table = files.read_table(folder.expectations)
    for severity in ("critical", "warning", "info"):
        rows = table[table["severity"] == severity]
        print(f"{severity:<9}{rows['passed'].sum()} of {len(rows)} expectations passed")
    for row in table[~table["passed"]].itertuples():
        print(f"  {row.severity}, {row.table}: {row.sentence}\n    {row.n_unexpected} exceptions: {row.examples}")
    if folder.acquisition_baseline.exists():
        baseline = files.read_table(folder.acquisition_baseline)
        alone = baseline[baseline["features"] == "all"].set_index("metric")["value"]
        print(f"acquisition alone (size, brightness, mode) ranks the classes with a ROC-AUC of {alone['roc_auc']:.3f}")
    stops = (~table["passed"] & (table["severity"] == "critical")).any()
    print("verdict  " + ("stopped: something critical is wrong" if stops else "passed"))
    print(f"report   {folder.checks_report}")
    print(DISCLAIMER)


def show_scoring_run(folder: "ScoringRunFolder") -> None:
    """Print what became of each batch, and where the record and the page are."""
    from cxr.storage import files

    record = files.read_record(folder.record)
    for batch in record["batches"]:
        if batch["decision"] != "nothing new" or batch["n_waiting"]:
            counts = f"{batch['n_scored']} scored, {batch['n_quarantined']} quarantined, {batch['n_waiting']} waiting"
            print(f"{batch['decision']:<20} {batch['batch']!r}: {counts}")
    held_now = {batch["batch"] for batch in record["batches"] if batch["decision"] == "held"}
    for name, n_rows in record["held"].items():
        if name not in held_now:
            print(f"{'held, earlier scoring run':<20} {name!r}: {n_rows} rows, until `cxr release` publishes them")
    n_scored = sum(batch["n_scored"] for batch in record["batches"])
    print(f"model    {record['model']} {record['model_version']}, {n_scored:,} images scored in this run")
    print(f"report   {folder.report}")
    places = f"'{folder.path.parent.parent}/*/*.parquet', union_by_name=true"
    print(f'query    duckdb -c "FROM read_parquet({places})"')
    print(DISCLAIMER)


def show_models(table: "pd.DataFrame") -> None:
    """Print one line per version of a model."""
    shown = Table()
    for column in table.columns:
        shown.add_column(str(column), justify="right" if column in ("size", "n_images", "roc_auc") else "left")
    for row in table.to_dict("records"):
        auc = "–" if math.isnan(row["roc_auc"]) else f"{row['roc_auc']:.1f}"
        shown.add_row(*map(str, (row | {"champion": "yes" if row["champion"] else "", "roc_auc": auc}).values()))
    Console(width=max(100, Console().width)).print(shown)
    if table.empty:
        print("no model yet: `cxr package RUN --name NAME` makes one of a finished run")


def show_runs(table: "pd.DataFrame") -> None:
    """Print one line per run, metrics in percent."""
    shown = Table()
    numbers = [column for column in table.columns if column not in ("run", "begun_at", "trainable", "folds")]
    for column in table.columns:
        shown.add_column(str(column), justify="right" if column in numbers else "left")
    for row in table.itertuples(index=False):
        cells = (f"{value:.1f}" if isinstance(value, float) else str(value) for value in row)
        shown.add_row(*("–" if cell == "nan" else cell for cell in cells))
    Console(width=max(120, Console().width)).print(shown)
    if table.empty:
        print("no run yet: `cxr train --data FOLDER` begins one")


def show_comparison(comparison: "Comparison") -> None:
    """Print each run's metrics in percent, and how they differ from the first run's."""
    others = ", ".join(f"{n:,} more in {run}" for run, n in comparison.n_others.items() if n)
    print(f"{comparison.n_images:,} images in common" + (f" ({others}, left out)" if others else ""))
    shown = Table()
    for column in ("run", "metric", "value, %", "difference, points [95 %]", "p"):
        shown.add_column(column, justify="left" if column in ("run", "metric") else "right")
    overall = comparison.metrics[comparison.metrics["class"].isna() | (comparison.metrics["class"] == "macro")]
    rows = overall if len(overall) else comparison.metrics
    for row in rows.to_dict("records"):
        value = format_estimate(row["value"], decimals=2)
        difference = format_estimate(row["difference"], row["ci_low"], row["ci_high"], decimals=2, sign=True)
        p = f"{row['p_value']:.3g} ({row['test']})"
        cells = [str(row["run"]), str(row["metric"]), value, difference, p]
        shown.add_row(*("–" if "nan" in cell else cell for cell in cells))
    Console(width=max(100, Console().width)).print(shown)
    print(f"changed  {len(comparison.changed):,} images are not called alike")


def show_stress(table: "pd.DataFrame", classes: Classes) -> None:
    """Print ROC-AUC, sensitivity and specificity in percent, one line per change and strength."""
    shown = Table()
    for column in ("change", "amount", "unit", "ROC-AUC", "sensitivity", "specificity"):
        shown.add_column(column, justify="left" if column in ("change", "unit") else "right")
    rows = table[table["class"] == (classes[1] if len(classes) == 2 else "macro")]
    for (change, _), of in rows.groupby(["change", "strength"], sort=False):
        first, values = of.iloc[0], of.set_index("metric")["value"]
        metrics = (f"{100 * values[metric]:.1f}" for metric in ("roc_auc", "sensitivity", "specificity"))
        amount, unit = ("", "") if first["strength"] == 0 else (f"{first['amount']:g}", first["unit"])
        shown.add_row(str(change), amount, unit, *(value.replace("nan", "–") for value in metrics))
    Console(width=max(100, Console().width)).print(shown)


def show_learning_curve(table: "pd.DataFrame", classes: Classes) -> None:
    """Print ROC-AUC, sensitivity and specificity in percent, one line per share of the patients."""
    shown = Table()
    for column in ("share", "training images", "ROC-AUC", "sensitivity", "specificity"):
        shown.add_column(column, justify="right")
    rows = table[table["class"] == (classes[1] if len(classes) == 2 else "macro")]
    for share, of in rows.groupby("share"):
        values = of.set_index("metric")["pooled"]
        metrics = (f"{100 * values[metric]:.1f}" for metric in ("roc_auc", "sensitivity", "specificity"))
        shown.add_row(f"{share:g}", f"{of['n_images'].iloc[0]:,.0f}", *(value.replace("nan", "–") for value in metrics))
    Console(width=max(100, Console().width)).print(shown)


def show_explanations(table: "pd.DataFrame", package: "Package", folder: "ExplanationFolder") -> None:
    """Print a line for each image: its class, how probable, how far the folds agree, and its picture."""
    for row in table.to_dict("records"):
        if row["status"] != "ok":
            print(f"{row['path']!r}: not judged, {row['reason'].replace('_', ' ')}: {row['detail']}")
            continue
        label = package.classes[1] if len(package.classes) == 2 else row["predicted_label"]
        limit = f", called from {package.threshold:.2f} up" if len(package.classes) == 2 else ""
        print(f"{row['path']!r}: {row['predicted_label']}")
        probability, spread = row[f"probability_{label}"], row["fold_spread"]
        print(f"  {label} with probability {probability:.3f}{limit}; folds differ by {spread:.3f}")
        print(f"  where it looked for {row['target']}: {folder.path / row['picture']}")
    print(f"table    {folder.table}")
    print(DISCLAIMER)
