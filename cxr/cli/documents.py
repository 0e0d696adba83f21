"""What a command prints with --json: one document on standard output, with what it prints for people otherwise.

The functions have the names of those in `run_results` and `model_results`. A verb that lists prints an array of rows;
any other an object with one key for each table, and `files`. Fields are named like the columns of the tables on disk,
and metrics are fractions as they are there, not percent; what is undefined is null.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import date
from typing import TYPE_CHECKING, Any

from cxr.classes import Classes, Findings

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
DECIMALS_OF_A_FRACTION = 12
"""A metric in percent that is divided by 100 has no more digits that mean anything."""


def write(document: object) -> None:
    """Print a document, as ASCII: names in it come from outside."""
    print(json.dumps(_plain(document), indent=2, allow_nan=False), flush=True)


def show_results(folder: "RunFolder") -> None:
    """Print the run's main metrics, those of clusters that were left out, and where its files are."""
    from cxr.evaluation.overview import headline
    from cxr.storage import verified

    table = headline(folder)
    clusters = folder.table("cluster_metrics")
    paths = {"run": folder.path, "tables": folder.metrics.parent, "summary": folder.summary}
    reports = {"checks": folder.checks_report, "report": folder.report}
    write(
        {
            "run": folder.run_id,
            "metrics": _fractions(table, [column for column in table.columns if column != "metric"]),
            "clusters": verified.read_table(clusters) if verified.exists(clusters) else [],
            "files": paths | {name: path if verified.exists(path) else None for name, path in reports.items()},
        }
    )


def show_appraisal(folder: "AppraisalFolder") -> None:
    """Print the metrics of appraised predictions, what is known of the images, and where the files are."""
    from cxr.evaluation.on_request.appraisal import outputs_of_appraisal
    from cxr.evaluation.overview import headline_of
    from cxr.storage import verified

    record = verified.read_record(folder.record)
    table = headline_of(verified.read_table(folder.table("summary")), outputs_of_appraisal(record))
    counts = ("images", "n_patients", "n_groups", "n_folds", "n_parts", "n_patients_in_several_folds")
    write(
        {"name": folder.name}
        | {name: record[name] for name in counts}
        | {
            "metrics": _fractions(table, [column for column in table.columns if column != "metric"]),
            "files": {"tables": folder.predictions.parent, "record": folder.record, "report": folder.report},
        }
    )


def show_recipes(recipes: Mapping[str, Mapping[str, Any]]) -> None:
    """Print a row for each option, with its value in each recipe."""
    names = next(iter(recipes.values()))
    write([{"option": name} | {recipe: options[name] for recipe, options in recipes.items()} for name in names])


def show_sets(descriptions: "Iterable[Description]") -> None:
    """Print a row for each collection that is known."""
    names = ("name", "title", "note", "options")
    write([{name: getattr(description, name) for name in names} for description in descriptions])


def show_checks(folder: "RunFolder") -> None:
    """Print what the data checks found, and what acquisition alone predicts."""
    from cxr.storage import verified

    data = verified.read_json(folder.data)
    expectations = verified.read_table(folder.expectations)
    baseline = folder.acquisition_baseline
    stops = (~expectations["passed"] & (expectations["severity"] == "critical")).any()
    write(
        {
            "verdict": "stopped" if stops else "passed",
            "images": data["images"],
            "identical": data["identical"],
            "left_aside": verified.read_table(folder.left_aside),
            "expectations": expectations,
            "acquisition_baseline": verified.read_table(baseline) if verified.exists(baseline) else [],
            "files": {"report": folder.checks_report},
        }
    )


def show_scoring_run(folder: "ScoringRunFolder") -> None:
    """Print what became of each batch, and what is held from this run or one before."""
    from cxr.storage import files

    record = files.read_record(folder.record)
    held = [{"batch": batch, "n_rows": n_rows} for batch, n_rows in record["held"].items()]
    facts = {name: record[name] for name in ("model", "model_version", "batches")}
    write(facts | {"held": held, "files": {"record": folder.record, "report": folder.report}})


def show_feedback(entered: "Entered", folder: "FeedbackFolder") -> None:
    """Print what was entered, the verdict on each version, and how it does by week."""
    from cxr.storage import files

    counts = asdict(entered)
    tables = {"verdicts": folder.verdicts, "performance": folder.performance}
    paths = tables | {"looks": folder.looks, "unmatched": folder.unmatched}
    write({"entered": counts} | {name: files.read_table(path) for name, path in tables.items()} | {"files": paths})


def show_models(table: "pd.DataFrame") -> None:
    """Print a row for each version of each model."""
    write(_fractions(table, ["roc_auc"]))


def show_recalibration(package: "Package") -> None:
    """Print what a recalibrated version was fitted to, and each operating point before and after."""
    files = {"package": package.folder.path, "card": package.folder.card}
    origin = package.facts["thresholds_from"]
    write({"name": package.name, "version": package.version, **origin, "files": files})


def show_retraining(folder: "RunFolder") -> None:
    """Print which version was made, how it compares with the champion, and whether it has become that."""
    from cxr.storage import verified

    paths = {"images": folder.retraining.images, "set_aside": folder.retraining.set_aside, "report": folder.report}
    write({"run": folder.run_id, **verified.read_json(folder.retraining.outcome), "files": paths})


def show_runs(table: "pd.DataFrame") -> None:
    """Print a row for each run."""
    from cxr.evaluation.overview import STARTING_PROJECT

    write(_fractions(table, list(STARTING_PROJECT)))


def show_comparison(comparison: "Comparison", folder: "ComparisonFolder") -> None:
    """Print each run's metrics, and how they differ from the first run's."""
    write(
        {
            "n_images": comparison.n_images,
            "n_changed": comparison.changed["image_id"].nunique(),
            "is_unlike": comparison.is_unlike,
            "left_out": [{"run": run, "n_images": n} for run, n in comparison.n_others.items()],
            "metrics": comparison.metrics,
            "files": {"metrics": folder.metrics, "changed_images": folder.changed_images},
        }
    )


def show_stress(table: "pd.DataFrame", _: Classes | Findings, files: Files) -> None:
    """Print the table of a stress test, with every class."""
    write({"stress": table, "files": files})


def show_learning_curve(table: "pd.DataFrame", _: Classes | Findings, files: Files) -> None:
    """Print the table of a learning curve, with every class."""
    write({"learning_curve": table, "files": files})


def show_explanations(table: "pd.DataFrame", package: "Package", folder: "ExplanationFolder") -> None:
    """Print a row for each image: what is predicted, how far the folds agree, and where its picture is."""
    facts = {"name": package.name, "version": package.version, "explanations": table}
    write(facts | {"files": {"folder": folder.path, "table": folder.table}})


def _fractions(table: "pd.DataFrame", columns: list[str]) -> "pd.DataFrame":
    """Return the table with some of its columns, which are in percent, as fractions."""
    return table.assign(**{name: (table[name].astype(float) / 100).round(DECIMALS_OF_A_FRACTION) for name in columns})


def _plain(value: Any) -> Any:
    """Return a value, or what it is made of, as JSON has it: a table as its rows, null for what is missing."""
    if hasattr(value, "to_dict"):
        value = value.astype(object).where(value.notna(), None).to_dict("records")
    elif hasattr(value, "tolist"):  # an array, or a number of NumPy's
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    is_plain = value is None or isinstance(value, bool | int | float)
    return value if is_plain else value.isoformat() if isinstance(value, date) else str(value)
