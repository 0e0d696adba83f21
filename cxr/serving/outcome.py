"""A scoring run's end: each batch judged, published or held; the record and the page that a person reads.

Both stand in `scores/_scoring_runs/<when>/`. `scoring_run.json` is written after each batch that had
anything new, so a scoring run that was killed leaves what it had concluded; `report.html`, with its pictures, once at
the end. Both name what earlier scoring runs still hold.
"""

import dataclasses
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from cxr import __version__
from cxr.images.inbox import Batch
from cxr.metrics import drift
from cxr.serving import scores
from cxr.serving.package import Package
from cxr.serving.scoring_runs import ScoringRun
from cxr.storage import events, files
from cxr.verdict import Verdict

log = logging.getLogger("cxr.checks")

N_BINS = 20
MAX_QUARANTINED, MAX_SHOWN = 200, 12
Decision = Literal["published", "held", "published by force", "nothing new"]
Check = Callable[[pd.DataFrame, pd.DataFrame, Sequence[str], str], list[Verdict]]
"""Judges a batch: its rows of the scores, what drift compares, the model's classes and version."""


@dataclass(frozen=True)
class Outcome:
    """What became of a batch in this run."""

    batch: str
    decision: Decision
    n_scored: int = 0
    n_quarantined: int = 0
    n_waiting: int = 0
    left_aside: dict[str, int] = dataclasses.field(default_factory=dict)
    reasons: dict[str, int] = dataclasses.field(default_factory=dict)
    predicted: dict[str, int] = dataclasses.field(default_factory=dict)
    n_in_training: int = 0
    estimated_accuracy: float | None = None
    histogram: list[int] = dataclasses.field(default_factory=list)
    """Images by the probability that is asked for, in 20 bins from 0 to 1."""
    quarantined: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    """The first 200: path, reason, detail, n_bytes, changed_ns."""
    nearest: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    """Images nearest to the threshold first."""
    disagreeing: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    """Images on which the folds differ most first."""
    verdicts: list[Verdict] = dataclasses.field(default_factory=list)
    drift: list[dict[str, Any]] = dataclasses.field(default_factory=list)


def conclude(scoring_run: ScoringRun, batch: Batch, check: Check) -> Outcome:
    """Evaluate what is staged of a batch; publish it, or hold it if anything critical failed; return what became of it."""
    staged = scoring_run.staged(batch.name)
    waiting = {"n_waiting": batch.n_waiting, "left_aside": batch.left_aside}
    if not staged.parts():
        return Outcome(batch.name, "nothing new", **waiting)
    package, rows = scoring_run.package(), scores.read_parts(staged)
    images = rows[rows["status"] == "ok"]
    with events.stage(scoring_run.folder.events, "check", batch=batch.name) as stage:
        compared = drift.compare(images, package.images(), package.classes)
        verdicts = check(rows, compared, package.classes, package.version)
        stage.n_images = len(rows)
    is_critical = any(verdict.highest_failed == "critical" for verdict in verdicts)
    decision: Decision = "published"
    if is_critical:
        decision = "published by force" if scoring_run.config.force else "held"
    scores.decide(scoring_run.scores, staged, publish=decision != "held")
    log.log(logging.ERROR if is_critical else logging.INFO, "batch %r: %s", batch.name, decision)
    refused = rows[rows["status"] == "quarantined"]
    estimate = compared.loc[compared["group"] == "accuracy", "value"].iloc[0]
    return Outcome(
        batch.name,
        decision,
        n_scored=len(images),
        n_quarantined=len(refused),
        reasons={str(k): int(n) for k, n in refused["reason"].value_counts().items()},
        predicted={str(k): int(n) for k, n in images["predicted_label"].value_counts().items()},
        n_in_training=int(images["in_training"].sum()),
        estimated_accuracy=None if np.isnan(estimate) else float(estimate),
        histogram=np.histogram(asked_for(images, package), bins=N_BINS, range=(0, 1))[0].tolist(),
        quarantined=_records(refused[["path", "reason", "detail", "n_bytes", "changed_ns"]].head(MAX_QUARANTINED)),
        nearest=_first(images, (asked_for(images, package) - package.threshold).abs(), package),
        disagreeing=_first(images, -images["fold_spread"], package),
        verdicts=verdicts,
        drift=_records(compared),
        **waiting,
    )


def asked_for(images: pd.DataFrame, package: Package) -> pd.Series:
    """Return the probability of the positive class, or, of more than two classes, of the class that is called."""
    columns = [f"probability_{name}" for name in package.classes]
    return images[columns[1]] if len(columns) == 2 else images[columns].max(axis=1)


def _first(images: pd.DataFrame, order: pd.Series, package: Package) -> list[dict[str, Any]]:
    rows = images.assign(probability=asked_for(images, package)).loc[order.sort_values(kind="stable").index[:MAX_SHOWN]]
    columns = ["path", "predicted_label", "probability", "fold_spread", "in_training", "n_bytes", "changed_ns"]
    return _records(rows[columns])


def _records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Return rows as plain values, ready for JSON; None where a value is missing."""
    return json.loads(rows.to_json(orient="records", double_precision=15))


def note(scoring_run: ScoringRun, outcomes: Sequence[Outcome]) -> None:
    """Note down the last outcome, if there was anything to conclude: what a killed scoring run leaves to be read."""
    if outcomes[-1].decision != "nothing new":
        write_record(scoring_run, outcomes)


def write_record(scoring_run: ScoringRun, outcomes: Sequence[Outcome]) -> None:
    """Write the scoring run's record."""
    package = scoring_run.package()
    record = {
        "format": files.FORMAT,
        "started_at": scoring_run.started_at,
        "written_at": files.now(),
        "inbox": str(scoring_run.inbox),
        "model": package.name,
        "model_version": package.version,
        "code": __version__,
        "batches": [dataclasses.asdict(outcome) for outcome in outcomes],
        "held": scores.held_batches(scoring_run.scores),
        "bfloat16": package.facts["bfloat16"],
    }
    files.write_json(scoring_run.folder.record, record)


def totals(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """Return the scoring run's counts: scored, quarantined, waiting, held (images in held batches)."""
    return {
        "scored": sum(o.n_scored for o in outcomes),
        "quarantined": sum(o.n_quarantined for o in outcomes),
        "waiting": sum(o.n_waiting for o in outcomes),
        "held": sum(o.n_scored + o.n_quarantined for o in outcomes if o.decision == "held"),
    }
