"""What verbs about images and runs print at their end: tables, where the files are, and a query that reads them."""

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console

from cxr.classes import Classes, Findings
from cxr.cli.tables import Files, add_row, new_table, print_table, say_files
from cxr.cli.terminal import say
from cxr.wording import DASH, DISCLAIMER, display_name, format_estimate, format_p

if TYPE_CHECKING:
    import pandas as pd

    from cxr.descriptions import Description
    from cxr.evaluation.on_request.comparison import Comparison
    from cxr.storage.appraisal_folder import AppraisalFolder
    from cxr.storage.run_folder import ComparisonFolder, RunFolder

THREE_METRICS = ("roc_auc", "sensitivity", "specificity")


def show_results(folder: "RunFolder") -> None:
    """Print the run's metrics in percent, where its tables are, and a query that reads them."""
    from cxr.evaluation.overview import headline  # loads torch, which `--help` does not need
    from cxr.storage import verified

    title = f"{folder.run_id}: out-of-fold metrics, %"
    metrics = headline(folder)
    beside = () if metrics["starting_project"].isna().all() else ("starting project",)
    table = new_table(("metric", "mean ± sd", "pooled [95%]", *beside), left=("metric",), title=title)
    for row in metrics.to_dict("records"):
        mean = format_estimate(row["mean"], sd=row["sd"], scale=1)
        pooled = format_estimate(row["pooled"], row["ci_low"], row["ci_high"], scale=1)
        add_row(
            table,
            display_name(row["metric"]),
            mean,
            pooled,
            *(format_estimate(row["starting_project"], scale=1) for _ in beside),
        )
    print_table(table, 80)
    if verified.exists(folder.table("cluster_metrics")):
        _show_worst_cluster(verified.read_table(folder.table("cluster_metrics")))
    say(DISCLAIMER)
    say(f"run      {folder.path}")
    say(f"tables   {folder.metrics.parent}")
    checks = folder.checks_report
    say(f"checks   {checks if verified.exists(checks) else 'none: `cxr validate` checks the images'}")
    if verified.exists(folder.report):
        say(f"report   {folder.report}")
    say(f"query    duckdb -c \"SELECT metric, pooled FROM '{folder.summary}'\"")


def show_appraisal(folder: "AppraisalFolder") -> None:
    """Print the metrics of appraised predictions in percent, what the intervals are over, and where the files are."""
    from cxr.evaluation.on_request.appraisal import outputs_of_appraisal
    from cxr.evaluation.overview import headline_of
    from cxr.report.appraisal_report import unit_of
    from cxr.storage import verified

    record = verified.read_record(folder.record)
    rows = headline_of(verified.read_table(folder.table("summary")), outputs_of_appraisal(record))
    has_folds = record["n_folds"] is not None
    columns = ("metric", *(("mean ± sd",) if has_folds else ()), "pooled [95%]")
    table = new_table(columns, left=("metric",), title=f"{folder.name}: {record['images']['used']:,} images, %")
    for row in rows.to_dict("records"):
        mean = (format_estimate(row["mean"], sd=row["sd"], scale=1),) if has_folds else ()
        pooled = format_estimate(row["pooled"], row["ci_low"], row["ci_high"], scale=1)
        add_row(table, display_name(row["metric"]), *mean, pooled)
    print_table(table, 80)
    unit = unit_of(record["n_patients"])
    say(
        f"intervals from a bootstrap over {record['n_groups']:,} {unit}"
        + ("; no patients are known" if unit == "images" else "")
    )
    if not has_folds:
        say(f"no folds: calibration and thresholds are fitted and judged on {record['n_parts']} parts drawn at random")
    if record["n_patients_in_several_folds"]:
        say(f"{record['n_patients_in_several_folds']:,} patients have images in more than one fold")
    say(DISCLAIMER)
    say(f"tables   {folder.predictions.parent}")
    say(f"report   {folder.report}")
    say(f"compare  cxr compare RUN {folder.name}")


def show_recipes(recipes: Mapping[str, Mapping[str, Any]]) -> None:
    """Print the options of recipes side by side."""
    table = new_table(("option", *recipes), left=("option",))
    for name in next(iter(recipes.values())):
        add_row(table, f"--{name.replace('_', '-')}", *(str(options[name]) for options in recipes.values()))
    print_table(table, 80)
    say("what each of them is worth: docs/decisions/recipes.md")


def show_sets(descriptions: "Iterable[Description]") -> None:
    """Print the collections that are known, what a person should know of each, and the options that it stands for."""
    for description in descriptions:
        say(f"{description.name:<12} {description.title}")
        if description.note:
            say(f"{'':<12} {description.note}")
        for words in description.typed:
            say(f"{'':<12}   {words}")
    say("to use one: cxr validate --data FOLDER --describe NAME; options that are given count more")


def _show_worst_cluster(table: "pd.DataFrame") -> None:
    aucs = table[table["metric"] == "roc_auc"].dropna(subset="value").sort_values("value")
    for row in aucs.head(1).to_dict("records"):
        auc = format_estimate(row["value"], row["ci_low"], row["ci_high"], unit="%")
        say(f"each fold left out a cluster of images acquired alike; worst: cluster {row['fold']}, ROC-AUC {auc}")


def show_checks(folder: "RunFolder") -> None:
    """Print what the data checks found, what acquisition alone predicts, and where the report is."""
    from cxr.dataset.listing.layout import name_left_aside
    from cxr.storage import verified

    data = verified.read_json(folder.data)
    say("images    " + " → ".join(f"{n:,} {name}" for name, n in data["images"].items()))
    copies = "{groups} byte-identical groups ({images} images), {across_classes} across classes"
    say("copies   " + copies.format(**data["identical"]))
    for line in name_left_aside(verified.read_table(folder.left_aside)):
        say(f"left aside {line}")
    table = verified.read_table(folder.expectations)
    _show_expectations(table)
    if verified.exists(folder.acquisition_baseline):
        baseline = verified.read_table(folder.acquisition_baseline)
        alone = baseline.query("features == 'all' and metric == 'roc_auc'")["value"].max()
        say(f"acquisition alone (size, brightness, mode) ranks the classes with a ROC-AUC of {alone:.3f}")
    stops = (~table["passed"] & (table["severity"] == "critical")).any()
    say("verdict  " + ("stopped: a critical expectation failed" if stops else "passed"))
    say(f"report   {folder.checks_report}")
    say(DISCLAIMER)


def _show_expectations(table: "pd.DataFrame") -> None:
    for severity in ("critical", "warning", "info"):
        rows = table[table["severity"] == severity]
        say(f"{severity:<9}{rows['passed'].sum()} of {len(rows)} expectations passed")
    for row in table[~table["passed"]].itertuples():
        say(f"  {row.severity}, {row.table}: {row.sentence}")
        say(f"    {row.n_unexpected} exceptions: {row.examples}")


def show_runs(table: "pd.DataFrame") -> None:
    """Print one line per run, metrics in percent."""
    shown = new_table(table.columns, left=("run", "begun_at", "trainable", "folds", "leave_out"))
    for row in table.itertuples(index=False):
        cells = (f"{value:.1f}" if isinstance(value, float) else str(value) for value in row)
        add_row(shown, *(DASH if cell == "nan" else cell for cell in cells))
    print_table(shown, Console(width=1000).measure(shown).maximum)
    if table.empty:
        say("no run yet: `cxr train --data FOLDER` begins one")


def show_comparison(comparison: "Comparison", folder: "ComparisonFolder") -> None:
    """Print each run's metrics in percent, how they differ from the first run's, and where the tables are."""
    others = ", ".join(f"{n:,} more in {run}" for run, n in comparison.n_others.items() if n)
    say(f"{comparison.n_images:,} images in common" + (f" ({others}, left out)" if others else ""))
    if comparison.is_unlike:
        say("the folds of these runs leave out different things (--leave-out): not all differences are the models'")
    shown = new_table(("run", "metric", "value, %", "difference, points [95%]", "p"), left=("run", "metric"))
    overall = comparison.metrics[comparison.metrics["class"].isna() | (comparison.metrics["class"] == "macro")]
    rows = overall if len(overall) else comparison.metrics
    for row in rows.to_dict("records"):
        value = format_estimate(row["value"], decimals=2)
        difference = format_estimate(row["difference"], row["ci_low"], row["ci_high"], decimals=2, sign=True)
        p = format_p(row["p_value"]) + ("" if math.isnan(row["p_value"]) else f" ({row['test']})")
        add_row(shown, str(row["run"]), display_name(row["metric"]), value, difference, p)
    print_table(shown, 100)
    say(f"changed  {comparison.changed['image_id'].nunique():,} images are predicted differently")
    say(f"tables   {folder.metrics}")
    say(f"         {folder.changed_images}")


def show_stress(table: "pd.DataFrame", classes: Classes | Findings, files: Files) -> None:
    """Print ROC-AUC, sensitivity and specificity in percent, one line per change and strength; and the files."""
    columns = ("change", "amount", "unit", "ROC-AUC", "sensitivity", "specificity")
    shown = new_table(columns, left=("change", "unit"))
    rows = table[table["class"] == classes.headline]
    for (change, _), rows_of_level in rows.groupby(["change", "strength"], sort=False):
        first = rows_of_level.iloc[0]
        amount = "" if first["strength"] == 0 else f"{first['amount']:g}"
        unit = "" if first["strength"] == 0 else first["unit"]
        add_row(shown, str(change), amount, unit, *_three_metrics(rows_of_level, "value"))
    print_table(shown, 100)
    say_files(files)


def show_learning_curve(table: "pd.DataFrame", classes: Classes | Findings, files: Files) -> None:
    """Print ROC-AUC, sensitivity and specificity in percent, one line per share of the patients; and the files."""
    shown = new_table(("share", "training images", "ROC-AUC", "sensitivity", "specificity"))
    rows = table[table["class"] == classes.headline]
    for share, rows_of_share in rows.groupby("share"):
        n_images = f"{rows_of_share['n_images'].iloc[0]:,.0f}"
        add_row(shown, f"{share:g}", n_images, *_three_metrics(rows_of_share, "pooled"))
    print_table(shown, 100)
    say_files(files)


def _three_metrics(rows: "pd.DataFrame", column: str) -> list[str]:
    values = rows.set_index("metric")[column]
    return [format_estimate(values[metric]) for metric in THREE_METRICS]
