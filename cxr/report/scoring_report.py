"""A scoring run's page, from scoring_report.html.j2."""

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cxr import __version__
from cxr.errors import UnreadableError
from cxr.images.decoding import decode_image
from cxr.images.inbox import LOOSE, Arrival, read_arrival
from cxr.report.markup import THUMBNAIL_PX, outline, render, thumbnail
from cxr.serving.outcome import N_BINS, Outcome, headline_probability, totals, write_record
from cxr.serving.package import TOLERATED_DIFFERENCE
from cxr.serving.scoring_runs import ScoringRun
from cxr.storage import events, files

log = logging.getLogger("cxr.checks")


def write_scoring_report(scoring_run: ScoringRun, outcomes: Sequence[Outcome]) -> None:
    """Write the scoring run's record and page."""
    with events.stage(scoring_run.folder.events, "report"):
        write_record(scoring_run, outcomes)
        folder, package = scoring_run.folder, scoring_run.package()
        probability = headline_probability(package.images(), package.classes)
        reference = np.histogram(probability, bins=N_BINS, range=(0, 1))[0]
        page = render(
            Path(__file__).with_name("scoring_report.html.j2"),
            record=files.read_record(folder.record),
            outcomes=sorted(outcomes, key=lambda o: (o.decision != "held", o.decision == "nothing new")),
            totals=totals(outcomes),
            package=package,
            reference=outline(*_shares(reference)),
            outline_of=lambda outcome: outline(*_shares(np.array(outcome.histogram))),
            picture=lambda batch, row: _picture(scoring_run, batch, row),
            tolerated=TOLERATED_DIFFERENCE,
            version=__version__,
        )
        files.write_text(folder.report, page)
        log.info("report: %s", folder.report)


def markdown(scoring_run: ScoringRun, outcomes: Sequence[Outcome]) -> str:
    """Return the scoring run in short, for Prefect's UI; names from the inbox cannot break out of their cells."""
    header = "| batch | | scored | quarantined | waiting | reasons |\n| --- | --- | --- | --- | --- | --- |"
    lines = [
        f"| `{_cell(o.batch)}` | {o.decision} | {o.n_scored} | {o.n_quarantined} | {o.n_waiting} | "
        f"{', '.join(f'{n} × {reason}' for reason, n in o.reasons.items())} |"
        for o in outcomes
    ]
    title = f"# {scoring_run.config.name} {scoring_run.version}: {', '.join(f'{n:,} {k}' for k, n in totals(outcomes).items())}"
    place = f"Report: `{scoring_run.folder.report}`. "
    return "\n".join([title, "", header, *lines, "", place + "Academic and research use only; not a medical device."])


def _cell(text: str) -> str:
    return re.sub(r"[^\w .,:+@()-]", "?", text)


def _shares(counts: np.ndarray) -> tuple[np.ndarray, float]:
    shares = counts / max(1, counts.sum())
    return shares, max(0.01, float(shares.max()))


def _picture(scoring_run: ScoringRun, batch: str, row: dict[str, Any]) -> str | None:
    """Return an image as a small picture; None where it cannot be read any more or never could."""
    file = str((scoring_run.inbox if batch == LOOSE else scoring_run.inbox / batch) / row["path"])
    try:
        data = read_arrival(Arrival(row["path"], file, row["n_bytes"], row["changed_ns"]))
        return thumbnail(decode_image(data, THUMBNAIL_PX).grey)
    except UnreadableError:
        return None
