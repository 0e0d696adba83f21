"""The end of a scoring run: each batch is checked, the decision is recorded, and the batch is published or held.

The record, `scores/_scoring_runs/<when>/scoring_run.json`, is written before the first image is scored, before each
batch is published or held, and at the end, when it says how the scoring run ended. So every published batch is in
a record, and a scoring run that is killed leaves its decisions. The record also lists batches that earlier
scoring runs left held.
"""

import dataclasses
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import pandas as pd

from cxr import __version__
from cxr.classes import NO_FINDING, REFER, SEPARATOR, Classes, Findings
from cxr.errors import CxrError, DiskError
from cxr.images.inbox import Batch
from cxr.images.other_files import OTHER_FILE
from cxr.metrics import drift
from cxr.serving.package import Package
from cxr.serving.scoring import scores
from cxr.serving.scoring.scoring_runs import ScoringRun, remember_contents
from cxr.storage import events, files
from cxr.verdict import Verdict

log = logging.getLogger("cxr.checks")

N_BINS = 20
"""Bins of the histogram of probabilities."""
MAX_QUARANTINED = 200
"""Quarantined files that an outcome lists, at most."""
QUARANTINED = ["path", "reason", "detail", "image_id", "n_bytes", "changed_ns"]
MAX_SHOWN = 12
"""Images that an outcome lists for a second look, at most."""
Decision = Literal["published", "held", "published by force", "nothing new"]
Ended = Literal["done", "stopped", "failed"]
Check = Callable[[pd.DataFrame, pd.DataFrame, Classes | Findings, str], list[Verdict]]
"""Checks a batch, given its rows of the scores, its comparison with the reference, the outputs and model version."""


@dataclass(frozen=True)
class Outcome:
    """What became of a batch in a scoring run."""

    batch: str
    decision: Decision
    n_scored: int = 0
    n_quarantined: int = 0
    """Files that cannot be used, without the other files."""
    other_files: dict[str, int] = dataclasses.field(default_factory=dict)
    """Number of files that are plainly no image, such as text, by kind."""
    n_waiting: int = 0
    left_aside: dict[str, int] = dataclasses.field(default_factory=dict)
    reasons: dict[str, int] = dataclasses.field(default_factory=dict)
    predicted: dict[str, int] = dataclasses.field(default_factory=dict)
    n_in_training: int = 0
    n_unlike_training: int | None = None
    """None if the package has no limit of novelty."""
    n_referred: dict[str, int] | None = None
    """By `fits none` and `fits several`; None if the package refers no image."""
    estimated_accuracy: float | None = None
    probability_of: str | None = None
    """The class of `headline_probability`; None where it is the highest of several."""
    threshold: float | None = None
    """From which `headline_probability` on that class is predicted; None where it is the highest of several."""
    histogram: list[int] = dataclasses.field(default_factory=list)
    """Number of images by `headline_probability`, in 20 bins from 0 to 1."""
    quarantined: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    """The first 200: path, reason, detail, image_id, n_bytes, changed_ns."""
    nearest: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    """The images nearest to the threshold, nearest first; none that is unlike the training images."""
    disagreeing: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    """The images on which the folds differ most, largest difference first; none that is unlike the training images."""
    unlike_training: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    """Images that are unlike the training images, the most novel first."""
    verdicts: list[Verdict] = dataclasses.field(default_factory=list)
    drift: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    @property
    def n_other_files(self) -> int:
        """Number of files that are plainly no image."""
        return sum(self.other_files.values())

    @classmethod
    def of(
        cls,
        batch: Batch,
        package: Package,
        rows: pd.DataFrame,
        compared: pd.DataFrame,
        verdicts: list[Verdict],
        decision: Decision,
    ) -> Self:
        """Return the outcome of a batch with new files.

        Args:
            batch: as it was listed.
            package: the model that scored it.
            rows: its new scores.
            compared: its new images against the reference images, from `drift.compare`.
            verdicts: what the check found.
            decision: what was decided from the verdicts.
        """
        images = rows[rows["status"] == "ok"]
        is_other = rows["reason"] == OTHER_FILE
        refused = rows[(rows["status"] == "quarantined") & ~is_other]
        if isinstance(package.outputs, Findings):
            images = images.assign(predicted_label=called_findings(images, package.outputs))
        probability = headline_probability(images, package.outputs)
        is_unlike = images["unlike_training"].fillna(False).astype(bool)
        unlike, known = images[is_unlike], images[~is_unlike]
        return cls(
            batch=batch.name,
            decision=decision,
            n_scored=len(images),
            n_quarantined=len(refused),
            other_files=_counts(rows.loc[is_other, "detail"]),
            n_waiting=batch.n_waiting,
            left_aside=batch.left_aside,
            reasons=_counts(refused["reason"]),
            predicted=_predicted(images, package.outputs),
            n_in_training=int(images["in_training"].sum()),
            n_unlike_training=None if package.novelty_limit is None else len(unlike),
            n_referred=None if package.referral is None else _count_referred(images),
            estimated_accuracy=_estimated_accuracy(compared),
            probability_of=package.outputs.positive if package.outputs.is_binary else None,
            threshold=package.threshold if package.outputs.is_binary else None,
            histogram=np.histogram(probability, bins=N_BINS, range=(0, 1))[0].tolist(),
            quarantined=_records(refused[QUARANTINED].head(MAX_QUARANTINED)),
            nearest=_first(known, probability[known.index], _from_threshold(known, package)),
            disagreeing=_first(known, probability[known.index], -known["fold_spread"]),
            unlike_training=_first(unlike, probability[unlike.index], -unlike["novelty"]),
            verdicts=verdicts,
            drift=_records(compared),
        )


def conclude(run: ScoringRun, batch: Batch, check: Check) -> Outcome:
    """Check a batch's new scores, and return what is to become of the batch; `carry_out` does it.

    Args:
        run: the scoring run that staged them.
        batch: as it was listed.
        check: a critical verdict holds the batch, unless the scoring run is forced.
    """
    staged = run.staged(batch.name)
    if not staged.parts():
        return Outcome(batch.name, "nothing new", n_waiting=batch.n_waiting, left_aside=batch.left_aside)
    remember_contents(run, batch)
    package = run.package()
    rows = scores.read_parts(staged)
    with events.stage(run.folder.events, "check", batch=batch.name) as stage:
        compared = drift.compare(rows[rows["status"] == "ok"], package.images(), package.outputs)
        verdicts = check(rows, compared, package.outputs, package.version)
        stage.n_images = len(rows)
    decision = decide(verdicts, force=run.config.force)
    log.log(logging.INFO if decision == "published" else logging.ERROR, "batch %r: %s", batch.name, decision)
    return Outcome.of(batch, package, rows, compared, verdicts, decision)


def decide(verdicts: Sequence[Verdict], *, force: bool) -> Decision:
    """Return what becomes of a batch with these verdicts; `force` publishes it whatever they are."""
    if all(verdict.highest_failed != "critical" for verdict in verdicts):
        return "published"
    return "published by force" if force else "held"


def headline_probability(images: pd.DataFrame, outputs: Classes | Findings) -> pd.Series:
    """Return the probability of the positive class; of more than two classes or findings, the highest."""
    columns = outputs.probability_columns
    return images[columns[1]] if outputs.is_binary else images[columns].max(axis=1)


def called_findings(images: pd.DataFrame, findings: Findings) -> pd.Series:
    """Return the findings that are predicted in each image, as one text.

    Args:
        images: columns called_<finding>.
        findings: of the model.
    """
    called = images[findings.called_columns].to_numpy(bool)
    names = np.asarray(findings, dtype=object)
    return pd.Series([SEPARATOR.join(names[row]) or NO_FINDING for row in called], images.index, dtype="str")


def _predicted(images: pd.DataFrame, outputs: Classes | Findings) -> dict[str, int]:
    """Return in how many images each class is predicted, or each finding, which may be several in one image."""
    if isinstance(outputs, Findings):
        called = images[outputs.called_columns].sum().to_numpy(int)
        return dict(zip(outputs, called.tolist(), strict=True))
    return _counts(images["predicted_label"])


def _count_referred(images: pd.DataFrame) -> dict[str, int]:
    """Return how many images no class fits, and how many several fit."""
    is_referred = images["answer"] == REFER
    fits_none = images["prediction_set"] == ""
    return {"fits none": int((is_referred & fits_none).sum()), "fits several": int((is_referred & ~fits_none).sum())}


def _from_threshold(images: pd.DataFrame, package: Package) -> pd.Series:
    """Return how far the probability of each image is from the threshold; of findings, of the one that is nearest."""
    if isinstance(package.outputs, Findings):
        distance = np.abs(images[package.outputs.probability_columns].to_numpy(float) - package.limits)
        return pd.Series(distance.min(axis=1, initial=1), images.index)
    return (headline_probability(images, package.outputs) - package.threshold).abs()


def _counts(values: pd.Series) -> dict[str, int]:
    return {str(value): int(n) for value, n in values.value_counts().items()}


def _estimated_accuracy(compared: pd.DataFrame) -> float | None:
    estimate = compared.loc[compared["group"] == "accuracy", "value"].iloc[0]
    return None if np.isnan(estimate) else float(estimate)


def _first(images: pd.DataFrame, probability: pd.Series, order: pd.Series) -> list[dict[str, Any]]:
    """Return the first images in ascending order of a key."""
    rows = images.assign(probability=probability).loc[order.sort_values(kind="stable").index[:MAX_SHOWN]]
    columns = ["path", "predicted_label", "probability", "fold_spread", "in_training", "novelty", "unlike_training"]
    return _records(rows[[*columns, "answer", "prediction_set", "image_id", "n_bytes", "changed_ns"]])


def _records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Return rows as plain values, ready for JSON; None where a value is missing."""
    return json.loads(rows.to_json(orient="records", double_precision=15))


def carry_out(run: ScoringRun, outcomes: Sequence[Outcome]) -> None:
    """Record what was decided, then publish or hold the last batch."""
    *_, outcome = outcomes
    if outcome.decision != "nothing new":
        write_record(run, outcomes)
        scores.settle(run.scores, run.staged(outcome.batch), publish=outcome.decision != "held")


@contextmanager
def recorded(run: ScoringRun, outcomes: Sequence[Outcome]) -> Iterator[None]:
    """Keep the scoring run's record while the block runs: begin it, and write down how the block ended.

    Args:
        run: the scoring run.
        outcomes: grows while the block runs.
    """
    try:
        write_record(run, outcomes)
        yield
        write_record(run, outcomes, "done")
    except BaseException as error:
        _record_failure(run, outcomes, error)
        raise


def _record_failure(run: ScoringRun, outcomes: Sequence[Outcome], error: BaseException) -> None:
    """Write down how the scoring run ended, if the disk still takes it; the error itself is for the caller."""
    ended: Ended = "stopped" if isinstance(error, SystemExit | KeyboardInterrupt) else "failed"
    if isinstance(error, OSError) and error.errno is not None:
        error = DiskError.of(error, run.scores.path)
    try:
        write_record(run, outcomes, ended, str(error) if isinstance(error, CxrError) else type(error).__name__)
    except (OSError, CxrError) as second:
        log.warning("the record of the scoring run does not say how it ended: %s", second)


def write_record(
    run: ScoringRun, outcomes: Sequence[Outcome], ended: Ended | None = None, error: str | None = None
) -> None:
    """Write the scoring run's record.

    Args:
        run: the scoring run.
        outcomes: of the batches that it has decided on.
        ended: how it ended; None while it goes on.
        error: why it did not come to its end.
    """
    package = run.package()
    record = {
        "format": files.FORMAT,
        "started_at": run.started_at,
        "written_at": files.now(),
        "ended": ended,
        "error": error,
        "inbox": str(run.inbox),
        "model": package.name,
        "model_version": package.version,
        "code": __version__,
        "batches": [dataclasses.asdict(outcome) for outcome in outcomes],
        "held": scores.held_batches(run.scores),
        "bfloat16": package.facts["bfloat16"],
    }
    files.write_json(run.folder.record, record)


def totals(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """Return the counts of files: scored, quarantined, other, waiting, and held (of any kind, in held batches)."""
    held = [outcome for outcome in outcomes if outcome.decision == "held"]
    return {
        "scored": sum(outcome.n_scored for outcome in outcomes),
        "quarantined": sum(outcome.n_quarantined for outcome in outcomes),
        "other files": sum(outcome.n_other_files for outcome in outcomes),
        "waiting": sum(outcome.n_waiting for outcome in outcomes),
        "held": sum(outcome.n_scored + outcome.n_quarantined + outcome.n_other_files for outcome in held),
    }
