"""A night's end: each batch judged, published or held; the record and the page that a person reads.

Both stand in `scores/_nights/<when>/`. `night.json` is written after each batch that had
anything new, so a night that was killed leaves what it had concluded; `report.html`, with its pictures, once at
the end. Both name what earlier nights still hold.
"""

import dataclasses
import json
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from cxr import __version__, drift, events, scores, store
from cxr.errors import UnreadableError
from cxr.images import decode_film
from cxr.inbox import LOOSE, Arrival, Batch, read_arrival
from cxr.layout import NightFolder
from cxr.package import Package
from cxr.page import THUMBNAIL_PX, outline, render, thumbnail
from cxr.rounding import TOLERATED_DIFFERENCE
from cxr.scoring import Night
from data_checks import gate
from data_checks.tolerances import Tolerances
from data_checks.verdict import Verdict

log = logging.getLogger("cxr.checks")

N_BINS = 20
MAX_QUARANTINED, MAX_SHOWN = 200, 12
Decision = Literal["published", "held", "published by force", "nothing new"]


@dataclass(frozen=True)
class Outcome:
    """What became of a batch tonight."""

    batch: str
    decision: Decision
    n_scored: int = 0
    n_quarantined: int = 0
    n_waiting: int = 0
    left_aside: dict[str, int] = dataclasses.field(default_factory=dict)
    reasons: dict[str, int] = dataclasses.field(default_factory=dict)
    called: dict[str, int] = dataclasses.field(default_factory=dict)
    n_in_training: int = 0
    estimated_accuracy: float | None = None
    histogram: list[int] = dataclasses.field(default_factory=list)
    """Films by the probability that is asked for, in 20 bins from 0 to 1."""
    quarantined: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    """The first 200: path, reason, detail, n_bytes, changed_ns."""
    nearest: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    """Films nearest to the threshold first."""
    disagreeing: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    """Films on which the folds differ most first."""
    verdicts: list[Verdict] = dataclasses.field(default_factory=list)
    drift: list[dict[str, Any]] = dataclasses.field(default_factory=list)


def conclude(night: Night, batch: Batch, limit: Tolerances) -> Outcome:
    """Judge what is staged of a batch; publish it, or hold it if anything critical failed; return what became of it."""
    staged = night.staged(batch.name)
    waiting = {"n_waiting": batch.n_waiting, "left_aside": batch.left_aside}
    if not staged.parts():
        return Outcome(batch.name, "nothing new", **waiting)
    package, rows = night.package(), scores.read_parts(staged)
    films = rows[rows["status"] == "ok"]
    with events.stage(_folder(night).events, "check", batch=batch.name) as stage:
        compared = drift.compare(films, package.films(), package.classes)
        verdicts = gate.check_scores(rows, compared, package.classes, package.version, limit)
        stage.n_films = len(rows)
    is_critical = any(verdict.highest_failed == "critical" for verdict in verdicts)
    decision: Decision = "published"
    if is_critical:
        decision = "published by force" if night.config.force else "held"
    scores.decide(night.scores, staged, publish=decision != "held")
    log.log(logging.ERROR if is_critical else logging.INFO, "batch %r: %s", batch.name, decision)
    refused = rows[rows["status"] == "quarantined"]
    estimate = compared.loc[compared["group"] == "accuracy", "value"].iloc[0]
    return Outcome(
        batch.name,
        decision,
        n_scored=len(films),
        n_quarantined=len(refused),
        reasons={str(k): int(n) for k, n in refused["reason"].value_counts().items()},
        called={str(k): int(n) for k, n in films["predicted_label"].value_counts().items()},
        n_in_training=int(films["in_training"].sum()),
        estimated_accuracy=None if np.isnan(estimate) else float(estimate),
        histogram=np.histogram(asked_for(films, package), bins=N_BINS, range=(0, 1))[0].tolist(),
        quarantined=_records(refused[["path", "reason", "detail", "n_bytes", "changed_ns"]].head(MAX_QUARANTINED)),
        nearest=_first(films, (asked_for(films, package) - package.threshold).abs(), package),
        disagreeing=_first(films, -films["fold_spread"], package),
        verdicts=verdicts,
        drift=_records(compared),
        **waiting,
    )


def asked_for(films: pd.DataFrame, package: Package) -> pd.Series:
    """Return the probability of the positive class, or, of more than two classes, of the class that is called."""
    columns = [f"probability_{name}" for name in package.classes]
    return films[columns[1]] if len(columns) == 2 else films[columns].max(axis=1)


def _first(films: pd.DataFrame, order: pd.Series, package: Package) -> list[dict[str, Any]]:
    rows = films.assign(probability=asked_for(films, package)).loc[order.sort_values(kind="stable").index[:MAX_SHOWN]]
    columns = ["path", "predicted_label", "probability", "fold_spread", "in_training", "n_bytes", "changed_ns"]
    return _records(rows[columns])


def _records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Return rows as plain values, ready for JSON; None where a value is missing."""
    return json.loads(rows.to_json(orient="records", double_precision=15))


def _folder(night: Night) -> NightFolder:
    return night.scores.night(night.started_at)


def note(night: Night, outcomes: Sequence[Outcome]) -> None:
    """Note down the last outcome, if there was anything to conclude: what a killed night leaves to be read."""
    if outcomes[-1].decision != "nothing new":
        _write_record(night, outcomes)


def _write_record(night: Night, outcomes: Sequence[Outcome]) -> None:
    package = night.package()
    record = {
        "started_at": night.started_at, "written_at": store.now(), "inbox": str(night.inbox),
        "model": package.name, "model_version": package.version, "code": __version__,
        "batches": [dataclasses.asdict(outcome) for outcome in outcomes],
        "held": scores.held_batches(night.scores),
        "bfloat16": package.facts["bfloat16"],
    }  # fmt: skip
    store.write_json(_folder(night).record, record)


def write_night(night: Night, outcomes: Sequence[Outcome]) -> None:
    """Write the night's record and page."""
    with events.stage(_folder(night).events, "report"):
        _write_record(night, outcomes)
        folder, package = _folder(night), night.package()
        reference = np.histogram(asked_for(package.films(), package), bins=N_BINS, range=(0, 1))[0]
        page = render(
            Path(__file__).with_name("night.html.j2"),
            record=store.read_json(folder.record),
            outcomes=sorted(outcomes, key=lambda o: (o.decision != "held", o.decision == "nothing new")),
            totals=totals(outcomes),
            package=package,
            reference=outline(*_shares(reference)),
            outline_of=lambda outcome: outline(*_shares(np.array(outcome.histogram))),
            picture=lambda batch, row: _picture(night, batch, row),
            tolerated=TOLERATED_DIFFERENCE,
            version=__version__,
        )
        store.write_text(folder.report, page)
        log.info("report: %s", folder.report)


def totals(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """Return the night's counts: scored, quarantined, waiting, held (films in held batches)."""
    return {
        "scored": sum(o.n_scored for o in outcomes),
        "quarantined": sum(o.n_quarantined for o in outcomes),
        "waiting": sum(o.n_waiting for o in outcomes),
        "held": sum(o.n_scored + o.n_quarantined for o in outcomes if o.decision == "held"),
    }


def markdown(night: Night, outcomes: Sequence[Outcome]) -> str:
    """Return the night in short, for Prefect's UI; names from the inbox cannot break out of their cells."""
    header = "| batch | | scored | quarantined | waiting | reasons |\n| --- | --- | --- | --- | --- | --- |"
    lines = [
        f"| `{_cell(o.batch)}` | {o.decision} | {o.n_scored} | {o.n_quarantined} | {o.n_waiting} | "
        f"{', '.join(f'{n} × {reason}' for reason, n in o.reasons.items())} |"
        for o in outcomes
    ]
    title = f"# {night.config.name} {night.version}: {', '.join(f'{n:,} {k}' for k, n in totals(outcomes).items())}"
    place = f"Report: `{_folder(night).report}`. "
    return "\n".join([title, "", header, *lines, "", place + "Academic and research use only; not a medical device."])


def _cell(text: str) -> str:
    return re.sub(r"[^\w .,:+@()-]", "?", text)


def _shares(counts: np.ndarray) -> tuple[np.ndarray, float]:
    shares = counts / max(1, counts.sum())
    return shares, max(0.01, float(shares.max()))


def _picture(night: Night, batch: str, row: dict[str, Any]) -> str | None:
    """Return a film as a small picture; None where it cannot be read any more or never could."""
    file = str((night.inbox if batch == LOOSE else night.inbox / batch) / row["path"])
    try:
        data = read_arrival(Arrival(row["path"], file, row["n_bytes"], row["changed_ns"]))
        return thumbnail(decode_film(data, THUMBNAIL_PX).grey)
    except UnreadableError:
        return None
