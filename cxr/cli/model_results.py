"""What verbs about models and their scores print at their end: tables, where the files are, and a query."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cxr.classes import NO_FINDING, REFER, SEPARATOR, Findings
from cxr.cli.tables import add_row, new_table, print_table
from cxr.cli.terminal import say
from cxr.wording import DASH, DISCLAIMER, describe_referral, display_name, format_estimate, visible

if TYPE_CHECKING:
    import pandas as pd

    from cxr.feedback.feedback import Entered
    from cxr.serving.package import Package
    from cxr.storage.run_folder import ExplanationFolder, RunFolder
    from cxr.storage.scores_folder import FeedbackFolder, ScoringRunFolder

N_WEEKS = 12
"""Weeks of a version that are printed, at most."""
WEEKLY = ("roc_auc", "sensitivity", "specificity", "calibration_in_the_large")


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
    from cxr.feedback.summary import by_week, performance_of, verdicts_by_class, verdicts_of

    say(f"entered  {entered.n_new:,} new labels, {entered.n_corrected:,} corrections, {entered.n_known:,} as before")
    if not entered.n_added:
        say("         nothing was added: all of this was entered before")
    if entered.n_unmatched:
        say(f"no image {entered.n_unmatched:,} rows name no scored image: {folder.unmatched}")
    if entered.n_left_out:
        say(f"left out {entered.n_left_out:,} labelled images, which the model was made from")
    for row in verdicts_of(folder):
        _show_weeks(row["model_version"], by_week(performance_of(folder, row["model_version"])))
        _show_verdict(f"version {row['model_version']}", row)
        for of_class in verdicts_by_class(folder, row["model_version"]):
            _show_verdict(f"  {visible(of_class['class'])}", of_class)
    say(f"tables   {folder.path}")
    say(DISCLAIMER)


def _show_weeks(version: str, weeks: list[dict[str, Any]]) -> None:
    """Print a line for all weeks of a version and for each of the last, in percent."""
    columns = ("week", "images", "of the class", *map(display_name, WEEKLY))
    shown = new_table(columns, left=("week",), title=f"version {version}, by week of scoring, %")
    for row in weeks[: N_WEEKS + 1]:
        counts = (f"{row['n_images']:,}", f"{row['n_positive']:,}")
        add_row(shown, row["week"] or "all", *counts, *(format_estimate(*row[metric]) for metric in WEEKLY))
    print_table(shown, 120)


def _show_verdict(of: str, row: dict[str, Any]) -> None:
    reason = f" ({visible(row['reason'])})" if row["reason"] else ""
    say(f"{of}: {row['verdict']}{reason}")
    if row["promised"] is not None:
        auc = format_estimate(row["roc_auc"], row["ci_low"], row["ci_high"], unit="%")
        promised = format_estimate(row["promised"], unit="%")
        say(f"  ROC-AUC {auc}, promised {promised} at least; evidence of less {_evidence(row)}, sure from 20")


def _evidence(row: dict[str, Any]) -> str:
    return DASH if row["evidence"] is None else f"{row['evidence']:.3g}"


def show_models(table: "pd.DataFrame") -> None:
    """Print one line per version of a model; ROC-AUC in percent."""
    numbers = ("size", "n_images", "roc_auc")
    shown = new_table(table.columns, left=[column for column in table.columns if column not in numbers])
    for row in table.to_dict("records"):
        auc = format_estimate(row["roc_auc"], scale=1)
        add_row(shown, *map(str, (row | {"champion": "yes" if row["champion"] else "", "roc_auc": auc}).values()))
    print_table(shown, 120)
    if table.empty:
        say("no model yet: `cxr package RUN --name NAME` makes one from a finished run")


def show_retraining(folder: "RunFolder") -> None:
    """Print what was added, which version was made, and whether it has become champion."""
    from cxr.storage import verified

    outcome = verified.read_json(folder.retraining.outcome)
    retrained = outcome["retrained"]
    added = ", ".join(f"{n:,} {visible(name)}" for name, n in retrained["n_added"].items())
    aside = ", ".join(f"{n:,} {visible(name)}" for name, n in retrained["n_patients_compared"].items())
    say(f"added    {added} labelled since version {retrained['from']} was trained")
    say(f"compared on patients that neither was trained on: {aside}")
    say(f"run      {folder.path}")
    say(f"verdict  {visible(outcome['sentence'])}")
    say(DISCLAIMER)


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
        columns = ("operating point", "threshold [95%]", "sensitivity", "after", "specificity", "after")
        shown = new_table(columns, left=("operating point",), title=title)
        for row in origin["operating_points"]:
            threshold = format_estimate(row["threshold"], row["ci_low"], row["ci_high"], scale=1, decimals=3)
            names = ("sensitivity_before", "sensitivity", "specificity_before", "specificity")
            rates = (format_estimate(row[name]) for name in names)
            used = " (used)" if row["operating_point"] == package.operating_point else ""
            add_row(shown, display_name(row["operating_point"]) + used, threshold, *rates)
        print_table(shown, 100)
    if origin["prevalence"] is not None and origin["stated_prevalence"] is None:
        say(
            f"{origin['prevalence']:.1%} of the labelled images are {visible(package.classes.positive)}: where it is "
            "rarer or more frequent, give --prevalence"
        )
    say(DISCLAIMER)


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
