"""What a command prints at its end: tables, where the files are, and a query that reads them."""

import math
import shlex
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cxr.classes import NO_FINDING, REFER, SEPARATOR, Classes, Findings
from cxr.cli.terminal import is_quiet, say
from cxr.labelling import LISTS
from cxr.wording import (
    DASH,
    DISCLAIMER,
    describe_referral,
    display_name,
    format_estimate,
    format_p,
    visible,
)

if TYPE_CHECKING:
    import pandas as pd

    from cxr.descriptions import Description
    from cxr.evaluation.on_request.comparison import Comparison
    from cxr.feedback.feedback import Entered
    from cxr.serving.package import Package
    from cxr.storage.appraisal_folder import AppraisalFolder
    from cxr.storage.run_folder import ComparisonFolder, ExplanationFolder, RunFolder
    from cxr.storage.scores_folder import FeedbackFolder, ScoringRunFolder

Files = Mapping[str, object]
N_WEEKS = 12
"""Weeks of a version that are printed, at most."""
WEEKLY = ("roc_auc", "sensitivity", "specificity", "calibration_in_the_large")
THREE_METRICS = ("roc_auc", "sensitivity", "specificity")


def show_results(folder: "RunFolder") -> None:
    """Print the run's metrics in percent, where its tables are, and a query that reads them."""
    from cxr.evaluation.overview import headline  # loads torch, which `--help` does not need
    from cxr.storage import verified

    title = f"{folder.run_id}: out-of-fold metrics, %"
    metrics = headline(folder)
    beside = () if metrics["starting_project"].isna().all() else ("starting project",)
    table = _table(("metric", "mean ± sd", "pooled [95 %]", *beside), left=("metric",), title=title)
    for row in metrics.to_dict("records"):
        mean = format_estimate(row["mean"], sd=row["sd"], scale=1)
        pooled = format_estimate(row["pooled"], row["ci_low"], row["ci_high"], scale=1)
        _add(table, row["metric"], mean, pooled, *(format_estimate(row["starting_project"], scale=1) for _ in beside))
    _print(table, 80)
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
    from cxr.evaluation.on_request.appraisal import classes_of_record
    from cxr.evaluation.overview import headline_of
    from cxr.report.appraisal_report import unit_of
    from cxr.storage import verified

    record = verified.read_record(folder.record)
    rows = headline_of(verified.read_table(folder.table("summary")), classes_of_record(record))
    has_folds = record["n_folds"] is not None
    columns = ("metric", *(("mean ± sd",) if has_folds else ()), "pooled [95 %]")
    table = _table(columns, left=("metric",), title=f"{folder.name}: {record['images']['used']:,} images, %")
    for row in rows.to_dict("records"):
        mean = (format_estimate(row["mean"], sd=row["sd"], scale=1),) if has_folds else ()
        _add(table, row["metric"], *mean, format_estimate(row["pooled"], row["ci_low"], row["ci_high"], scale=1))
    _print(table, 80)
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
    table = _table(("option", *recipes), left=("option",))
    for name in next(iter(recipes.values())):
        _add(table, f"--{name.replace('_', '-')}", *(str(options[name]) for options in recipes.values()))
    _print(table, 80)
    say("what each of them is worth: docs/decisions/recipes.md")


def show_sets(descriptions: "Iterable[Description]") -> None:
    """Print the collections that are known, what a person should know of each, and the options that it stands for."""
    for description in descriptions:
        say(f"{description.name:<12} {description.title}")
        if description.note:
            say(f"{'':<12} {description.note}")
        for name, value in description.options.items():
            texts = [",".join(value)] if name in LISTS else value if isinstance(value, list) else [value]
            for text in texts:
                say(f"{'':<12}   --{name.replace('_', '-')} {shlex.quote(str(text))}")
    say("to use one: cxr validate --data FOLDER --describe NAME; options that are given count more")


def _show_worst_cluster(table: "pd.DataFrame") -> None:
    aucs = table[table["metric"] == "roc_auc"].dropna(subset="value").sort_values("value")
    for row in aucs.head(1).to_dict("records"):
        auc = format_estimate(row["value"], row["ci_low"], row["ci_high"])
        say(f"each fold left out a cluster of images acquired alike; worst: cluster {row['fold']}, ROC-AUC {auc} %")


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


def show_scoring_run(folder: "ScoringRunFolder") -> None:
    """Print what became of each batch, and where the record and the report are."""
    from cxr.storage import files

    record = files.read_record(folder.record)
    for batch in record["batches"]:
        if batch["decision"] != "nothing new" or batch["n_waiting"]:
            say(f"{batch['decision']:<20} {batch['batch']!r}: {_counts_of(batch)}")
    _show_held_earlier(record)
    n_scored = sum(batch["n_scored"] for batch in record["batches"])
    say(f"model    {record['model']} {record['model_version']}, {n_scored:,} images scored in this run")
    say(f"report   {folder.report}")
    parts = f"'{folder.path.parent.parent}/*/*.parquet', union_by_name=true"
    say(f'query    duckdb -c "FROM read_parquet({parts})"')
    say(DISCLAIMER)


def _counts_of(batch: Mapping[str, Any]) -> str:
    """Return a batch's counts of files; those that are 0 or unknown, and expected to be, are left out."""
    unlike = batch["n_unlike_training"]
    scored = f"{batch['n_scored']} scored" + (f" ({unlike} unlike the training images)" if unlike else "")
    n_other = sum(batch["other_files"].values())
    others = f"{n_other} other files, " if n_other else ""
    return f"{scored}, {batch['n_quarantined']} quarantined, {others}{batch['n_waiting']} waiting"


def _show_held_earlier(record: dict[str, Any]) -> None:
    held_now = {batch["batch"] for batch in record["batches"] if batch["decision"] == "held"}
    for name, n_rows in record["held"].items():
        if name not in held_now:
            say(f"{'held, earlier scoring run':<20} {name!r}: {n_rows} rows, until `cxr release` publishes them")


def show_feedback(entered: "Entered", folder: "FeedbackFolder") -> None:
    """Print what was entered, how the model does by week and by version, and the verdict on each version."""
    from cxr.feedback.summary import by_week, performance_of, verdicts_of

    say(f"entered  {entered.n_new:,} new labels, {entered.n_corrected:,} corrections, {entered.n_known:,} as before")
    if not entered.n_added:
        say("         nothing was added: all of this was entered before")
    if entered.n_unmatched:
        say(f"no image {entered.n_unmatched:,} rows name no scored image: {folder.unmatched}")
    if entered.n_left_out:
        say(f"left out {entered.n_left_out:,} labelled images, which the model was made from")
    for row in verdicts_of(folder):
        _show_weeks(row["model_version"], by_week(performance_of(folder, row["model_version"])))
        _show_verdict(row)
    say(f"tables   {folder.path}")
    say(DISCLAIMER)


def _show_weeks(version: str, weeks: list[dict[str, Any]]) -> None:
    """Print a line for all weeks of a version and for each of the last, in percent."""
    columns = ("week", "images", "of the class", *map(display_name, WEEKLY))
    shown = _table(columns, left=("week",), title=f"version {version}, by week of scoring, %")
    for row in weeks[: N_WEEKS + 1]:
        counts = (f"{row['n_images']:,}", f"{row['n_positive']:,}")
        _add(shown, row["week"] or "all", *counts, *(format_estimate(*row[metric]) for metric in WEEKLY))
    _print(shown, 120)


def _show_verdict(row: dict[str, Any]) -> None:
    reason = f" ({row['reason']})" if row["reason"] else ""
    say(f"version {row['model_version']}: {row['verdict']}{reason}")
    if row["promised"] is not None:
        auc = format_estimate(row["roc_auc"], row["ci_low"], row["ci_high"])
        promised = format_estimate(row["promised"])
        say(f"  ROC-AUC {auc} %, promised {promised} % at least; evidence of less {_evidence(row)}, sure from 20")


def _evidence(row: dict[str, Any]) -> str:
    return DASH if row["evidence"] is None else f"{row['evidence']:.3g}"


def show_models(table: "pd.DataFrame") -> None:
    """Print one line per version of a model; ROC-AUC in percent."""
    numbers = ("size", "n_images", "roc_auc")
    shown = _table(table.columns, left=[column for column in table.columns if column not in numbers])
    for row in table.to_dict("records"):
        auc = format_estimate(row["roc_auc"], scale=1)
        _add(shown, *map(str, (row | {"champion": "yes" if row["champion"] else "", "roc_auc": auc}).values()))
    _print(shown, 120)
    if table.empty:
        say("no model yet: `cxr package RUN --name NAME` makes one from a finished run")


def show_recalibration(package: "Package") -> None:
    """Print what a recalibrated version was fitted to, and each operating point before and after."""
    origin = package.facts["thresholds_from"]
    counts = ", ".join(f"{n:,} {visible(name)}" for name, n in origin["n_images"].items())
    patients = "" if origin["n_patients"] is None else f", {origin['n_patients']:,} patients"
    say(f"fitted   to {sum(origin['n_images'].values()):,} images ({counts}){patients}")
    left_out = ", ".join(f"{n:,} {reason.replace('_', ' ')}" for reason, n in origin["left_out"].items() if n)
    if left_out:
        say(f"left out {left_out}")
    if origin["operating_points"]:
        title = "on the labelled images, %: before; and after, where a bootstrap replicate did not draw them"
        columns = ("operating point", "threshold [95 %]", "sensitivity", "after", "specificity", "after")
        shown = _table(columns, left=("operating point",), title=title)
        for row in origin["operating_points"]:
            threshold = format_estimate(row["threshold"], row["ci_low"], row["ci_high"], scale=1, decimals=3)
            names = ("sensitivity_before", "sensitivity", "specificity_before", "specificity")
            rates = (format_estimate(row[name]) for name in names)
            used = " (used)" if row["operating_point"] == package.operating_point else ""
            _add(shown, display_name(row["operating_point"]) + used, threshold, *rates)
        _print(shown, 100)
    if origin["prevalence"] is not None and origin["stated_prevalence"] is None:
        say(
            f"{origin['prevalence']:.0%} of the labelled images are {visible(package.classes.positive)}: where it is "
            "rarer or more frequent, give --prevalence"
        )
    say(DISCLAIMER)


def show_runs(table: "pd.DataFrame") -> None:
    """Print one line per run, metrics in percent."""
    shown = _table(table.columns, left=("run", "begun_at", "trainable", "folds", "leave_out"))
    for row in table.itertuples(index=False):
        cells = (f"{value:.1f}" if isinstance(value, float) else str(value) for value in row)
        _add(shown, *(DASH if cell == "nan" else cell for cell in cells))
    _print(shown, Console(width=1000).measure(shown).maximum)
    if table.empty:
        say("no run yet: `cxr train --data FOLDER` begins one")


def show_comparison(comparison: "Comparison", folder: "ComparisonFolder") -> None:
    """Print each run's metrics in percent, how they differ from the first run's, and where the tables are."""
    others = ", ".join(f"{n:,} more in {run}" for run, n in comparison.n_others.items() if n)
    say(f"{comparison.n_images:,} images in common" + (f" ({others}, left out)" if others else ""))
    if comparison.is_unlike:
        say("the folds of these runs leave out different things (--leave-out): not all differences are the models'")
    shown = _table(("run", "metric", "value, %", "difference, points [95 %]", "p"), left=("run", "metric"))
    overall = comparison.metrics[comparison.metrics["class"].isna() | (comparison.metrics["class"] == "macro")]
    rows = overall if len(overall) else comparison.metrics
    for row in rows.to_dict("records"):
        value = format_estimate(row["value"], decimals=2)
        difference = format_estimate(row["difference"], row["ci_low"], row["ci_high"], decimals=2, sign=True)
        p = format_p(row["p_value"]) + ("" if math.isnan(row["p_value"]) else f" ({row['test']})")
        _add(shown, str(row["run"]), str(row["metric"]), value, difference, p)
    _print(shown, 100)
    say(f"changed  {comparison.changed['image_id'].nunique():,} images are predicted differently")
    say(f"tables   {folder.metrics}")
    say(f"         {folder.changed_images}")


def show_stress(table: "pd.DataFrame", classes: Classes | Findings, files: Files) -> None:
    """Print ROC-AUC, sensitivity and specificity in percent, one line per change and strength; and the files."""
    columns = ("change", "amount", "unit", "ROC-AUC", "sensitivity", "specificity")
    shown = _table(columns, left=("change", "unit"))
    rows = table[table["class"] == classes.headline]
    for (change, _), rows_of_level in rows.groupby(["change", "strength"], sort=False):
        first = rows_of_level.iloc[0]
        amount = "" if first["strength"] == 0 else f"{first['amount']:g}"
        unit = "" if first["strength"] == 0 else first["unit"]
        _add(shown, str(change), amount, unit, *_three_metrics(rows_of_level, "value"))
    _print(shown, 100)
    _say_files(files)


def show_learning_curve(table: "pd.DataFrame", classes: Classes | Findings, files: Files) -> None:
    """Print ROC-AUC, sensitivity and specificity in percent, one line per share of the patients; and the files."""
    shown = _table(("share", "training images", "ROC-AUC", "sensitivity", "specificity"))
    rows = table[table["class"] == classes.headline]
    for share, rows_of_share in rows.groupby("share"):
        n_images = f"{rows_of_share['n_images'].iloc[0]:,.0f}"
        _add(shown, f"{share:g}", n_images, *_three_metrics(rows_of_share, "pooled"))
    _print(shown, 100)
    _say_files(files)


def show_explanations(table: "pd.DataFrame", package: "Package", folder: "ExplanationFolder") -> None:
    """Print for each image its class, its probability, how far the folds agree, and where its picture is."""
    for row in table.to_dict("records"):
        if row["status"] == "ok":
            _show_explanation(row, package, folder)
        else:
            say(f"{row['path']!r}: not predicted, {row['reason'].replace('_', ' ')}: {row['detail']}")
    say(f"table    {folder.table}")
    say(DISCLAIMER)


def _show_explanation(row: dict[Any, Any], package: "Package", folder: "ExplanationFolder") -> None:
    if isinstance(package.outputs, Findings):
        _show_findings(row, package.outputs, package)
    else:
        _show_class(row, package)
    if row["unlike_training"] is True:
        say(f"  unlike the training images (novelty {row['novelty']:.1f}, limit {package.novelty_limit:.1f})")
    say(f"  where the model looked for {row['target']}: {folder.path / row['picture']}, {row['map']}")


def _show_class(row: dict[Any, Any], package: "Package") -> None:
    label = package.classes.positive or row["predicted_label"]
    limit = f", predicted from {package.threshold:.2f} up" if package.classes.is_binary else ""
    probability = row[f"probability_{label}"]
    say(f"{row['path']!r}: {row['predicted_label']}")
    say(f"  {label} with probability {probability:.3f}{limit}; the folds differ by {row['fold_spread']:.3f}")
    if package.referral is not None:
        say(f"  answer {row['answer']}{_why_referred(row, package)}")


def _why_referred(row: dict[Any, Any], package: "Package") -> str:
    if row["answer"] != REFER:
        return ", the only class that fits"
    fitting = row["prediction_set"].split(SEPARATOR) if row["prediction_set"] else []
    return f": {describe_referral(fitting, len(package.classes))}"


def _show_findings(row: dict[Any, Any], findings: Findings, package: "Package") -> None:
    called = [name for name, column in zip(findings, findings.called_columns, strict=True) if row[column]]
    say(f"{row['path']!r}: {', '.join(called) or NO_FINDING}; the folds differ by {row['fold_spread']:.3f} at most")
    for name, limit in zip(findings, package.limits, strict=True):
        say(f"  {name} with probability {row[f'probability_{name}']:.3f}, predicted from {limit:.2f} up")


def _table(columns: Iterable[str], *, left: Collection[str] = (), title: str | None = None) -> Table:
    """Return an empty table; columns are aligned to the right but for those in `left`."""
    table = Table(title=title and Text(visible(title)), title_justify="left")
    for column in columns:
        table.add_column(Text(visible(column)), justify="left" if column in left else "right")
    return table


def _add(table: Table, *cells: str) -> None:
    """Add a row whose cells are text, never Rich's markup."""
    table.add_row(*(Text(visible(cell)) for cell in cells))


def _say_files(files: Files) -> None:
    for name, path in files.items():
        say(f"{name:<8} {path}")


def _print(table: Table, least_width: int) -> None:
    """Print a table, unless the command is quiet, without cutting its columns where the terminal is narrower."""
    if is_quiet():
        return
    Console(width=max(least_width, Console().width)).print(table)


def _three_metrics(rows: "pd.DataFrame", column: str) -> list[str]:
    values = rows.set_index("metric")[column]
    return [format_estimate(values[metric]) for metric in THREE_METRICS]
