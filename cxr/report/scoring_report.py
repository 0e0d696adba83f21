"""The report of a scoring run: an HTML page, and a short version in Markdown for Prefect's UI."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cxr import __version__
from cxr.feedback.summary import by_week, performance_of, verdict_of, verdicts_by_class
from cxr.report.drawing import Figure, legible
from cxr.report.histograms import Mark, histogram, shares_of
from cxr.report.markup import THUMBNAIL_PX, render, thumbnail
from cxr.serving.package import TOLERATED_DIFFERENCE, Package
from cxr.serving.scoring.outcome import N_BINS, Outcome, headline_probability, totals, write_record
from cxr.serving.scoring.pictures import find_picture
from cxr.serving.scoring.scoring_runs import ScoringRun
from cxr.storage import events, files
from cxr.wording import DASH, DISCLAIMER, display_name, format_estimate, format_folder_time, format_p
from cxr.wording import markdown as escape

log = logging.getLogger("cxr.checks")

N_WEEKS = 13
"""Rows of the table of later labels, at most: all weeks together, and the latest."""


def write_scoring_report(scoring_run: ScoringRun, outcomes: Sequence[Outcome]) -> None:
    """Write the scoring run's record once more, and its report."""
    with events.stage(scoring_run.folder.events, "report"):
        write_record(scoring_run, outcomes)
        folder = scoring_run.folder
        package = scoring_run.package()
        probability = headline_probability(package.images(), package.outputs)
        reference = np.histogram(probability, bins=N_BINS, range=(0, 1))[0].tolist()
        page = render(
            Path(__file__).with_name("scoring_report.html.j2"),
            record=files.read_record(folder.record),
            begun=format_folder_time(scoring_run.started_at),
            outcomes=sorted(outcomes, key=_held_first),
            totals=totals(outcomes),
            package=package,
            later=_later_labels(scoring_run),
            histogram_of=lambda k, outcome: _histogram(k, outcome, package, reference),
            picture=lambda batch, row: _picture(scoring_run, batch, row),
            tolerated=TOLERATED_DIFFERENCE,
            format_p=format_p,
            format_estimate=format_estimate,
            version=__version__,
            disclaimer=DISCLAIMER,
        )
        files.write_text(folder.report, page)
        log.info("report: %s", folder.report)


def _later_labels(scoring_run: ScoringRun) -> dict[str, Any] | None:
    """Return what later labels say of the version that scores; None without labels.

    Fields: those of its verdict, `weeks`, and `by_class`, the verdicts on each of more than two classes.
    """
    folder = scoring_run.scores.feedback(scoring_run.model)
    verdict = verdict_of(folder, scoring_run.version)
    if verdict is None:
        return None
    weeks = by_week(performance_of(folder, scoring_run.version))[:N_WEEKS]
    return verdict | {"weeks": weeks, "by_class": verdicts_by_class(folder, scoring_run.version)}


def _held_first(outcome: Outcome) -> tuple[bool, bool]:
    return outcome.decision != "held", outcome.decision == "nothing new"


def markdown(scoring_run: ScoringRun, outcomes: Sequence[Outcome]) -> str:
    """Return a summary of the scoring run as Markdown; names from the inbox cannot break out of their cells."""
    columns = ["batch", "", "scored", "unlike training", "quarantined", "other files", "waiting", "reasons"]
    header = f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}"
    lines = [
        f"| {escape(outcome.batch)} | {outcome.decision} | {outcome.n_scored} | "
        f"{_or_dash(outcome.n_unlike_training)} | {outcome.n_quarantined} | {outcome.n_other_files} | "
        f"{outcome.n_waiting} | {', '.join(f'{n} × {reason}' for reason, n in outcome.reasons.items())} |"
        for outcome in outcomes
    ]
    counts = ", ".join(f"{n:,} {name}" for name, n in totals(outcomes).items())
    title = f"# {escape(scoring_run.model)} {escape(scoring_run.version)}: {counts}"
    later = _later_labels(scoring_run)
    if later:
        lines += ["", f"Labels that came later: {later['verdict']}, {later['n_images']:,} images."]
    return "\n".join([title, "", header, *lines, "", f"Report: {escape(scoring_run.folder.report)}. {DISCLAIMER}"])


def _or_dash(count: int | None) -> str:
    return DASH if count is None else str(count)


def _histogram(k: int, outcome: Outcome, package: Package, reference: Sequence[int]) -> Figure:
    """Return the probabilities of a batch beside those of the model's images, with the threshold if there is one.

    Args:
        k: number of the batch on the page.
        outcome: of the batch.
        package: the model.
        reference: counts of the model's out-of-fold probabilities, in the bins of the outcome's histogram.
    """
    counts = {"this batch": outcome.histogram, "the model's images, out of fold": reference}
    what = "the most probable finding" if package.thresholds_of else package.outputs.positive or "the predicted class"
    point = display_name(package.operating_point)
    return histogram(
        f"batch-{k}-probabilities",
        f"Probability of {what}",
        f"Histogram of the probability of {what} in the batch, and out of fold in the images of the model.",
        shares_of(counts, np.linspace(0, 1, N_BINS + 1)),
        axis=f"Probability of {legible(what)}",
        share="Share of the images",
        mark=Mark(f"threshold, {point}", package.threshold) if package.outputs.is_binary else None,
    )


def _picture(scoring_run: ScoringRun, batch: str, row: Mapping[str, Any]) -> str | None:
    """Return a thumbnail of a file in the inbox as a data URI; None if `find_picture` finds none."""
    found = find_picture(scoring_run.inbox, batch, row, THUMBNAIL_PX)
    return found and thumbnail(found.grey)
