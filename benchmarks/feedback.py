"""How often `cxr feedback` calls a kept promise broken, and how late it finds a fall: simulated weeks of labels.

    python -m benchmarks.feedback

Scores are normal, with a ROC-AUC of 95 % and a package that promises 94 % at least. Each week some patients are
labelled, 30 % of them with the finding, an image each, for two years. False alarms are counted where the ROC-AUC is
just what was promised, and where it is 95 %; the delay where it falls by 3 or 5 points to 92 or 90 %, in the first week
or in the 27th. Beside it stand two rules that know nothing of the number of looks: the 95 % interval of the week, or
that of all weeks so far, lies below the promise (DeLong's, as `cxr.metrics.delong` computes it).
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from benchmarks.results import keep
from cxr.metrics.delong import auc_interval
from cxr.metrics.sequential import SURE, Look, evidence, wins_of

N_WEEKS = 104
PER_WEEK = (60, 200)
N_REPETITIONS = 100
PREVALENCE = 0.3
USUAL = 0.95
PROMISED = 0.94
Week = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Scores of the patients with and without the finding."""


def draw_weeks(generator: np.random.Generator, per_week: int, aucs: NDArray[np.float64]) -> Iterator[Week]:
    """Yield the scores of each week; `aucs` has the ROC-AUC of each."""
    for auc in aucs:
        n_positive = round(PREVALENCE * per_week)
        shift = np.sqrt(2) * norm.ppf(auc)
        yield generator.normal(shift, 1, n_positive), generator.normal(0, 1, per_week - n_positive)


def found_by_evidence(weeks: list[Week]) -> int | None:
    """Return the week, from 0, in which the evidence is first sure; None if it never is."""
    looks = [Look(wins_of(list(positive[:, None]), list(negative[:, None]))) for positive, negative in weeks]
    return _first(evidence(looks, PROMISED) >= SURE)


def found_by_interval(weeks: list[Week], *, cumulative: bool) -> int | None:
    """Return the week, from 0, in which an interval first lies below the promise; None if none does."""
    is_below = [_lies_below(weeks[0 if cumulative else number : number + 1]) for number in range(len(weeks))]
    return _first(np.array(is_below))


def _lies_below(weeks: list[Week]) -> bool:
    positive, negative = (np.concatenate(scores) for scores in zip(*weeks, strict=True))
    truth = np.repeat([True, False], [len(positive), len(negative)])
    score = np.concatenate([positive, negative])
    return auc_interval(truth, score, np.arange(len(score)))[1] < PROMISED


def _first(is_found: NDArray[np.bool_]) -> int | None:
    return int(is_found.argmax()) if is_found.any() else None


RULES = {
    "evidence": found_by_evidence,
    "interval of the week": partial(found_by_interval, cumulative=False),
    "interval of all weeks": partial(found_by_interval, cumulative=True),
}


def false_alarms(per_week: int, auc: float) -> dict[str, float]:
    """Return by rule in which share of the repetitions a promise that is kept is called broken within two years."""
    found = _found(per_week, np.full(N_WEEKS, auc), list(RULES))
    return {rule: float(np.mean([week is not None for week in weeks])) for rule, weeks in found.items()}


def delays(per_week: int, fall: float, begins: int) -> dict[str, Any]:
    """Return in which share of the repetitions a fall is found within 13, 26 and 52 weeks, and the median delay.

    Args:
        per_week: labelled patients.
        fall: of the ROC-AUC.
        begins: week of the fall, from 0. What is found before it counts as not found.
    """
    aucs = np.where(np.arange(begins + 52) < begins, USUAL, USUAL - fall)
    (weeks,) = _found(per_week, aucs, ["evidence"]).values()
    late = [np.inf if week is None or week < begins else week - begins + 1 for week in weeks]
    median = float(np.median(late))
    shares = {f"found within {limit} weeks": float(np.mean(np.array(late) <= limit)) for limit in (13, 26, 52)}
    return shares | {"median weeks": median if np.isfinite(median) else None}


def _found(per_week: int, aucs: NDArray[np.float64], rules: list[str]) -> dict[str, list[int | None]]:
    generator = np.random.default_rng(0)
    found: dict[str, list[int | None]] = {rule: [] for rule in rules}
    for _ in range(N_REPETITIONS):
        weeks = list(draw_weeks(generator, per_week, aucs))
        for rule in rules:
            found[rule].append(RULES[rule](weeks))
    return found


def main() -> None:
    """Simulate, keep the figures."""
    figures: dict[str, Any] = {"repetitions": N_REPETITIONS, "weeks": N_WEEKS, "promised": PROMISED}
    few, _ = PER_WEEK
    for auc in (PROMISED, USUAL):
        figures[f"{few} a week: false alarms at {auc:g}"] = false_alarms(few, auc)
    for per_week in PER_WEEK:
        for fall in (0.03, 0.05):
            for begins in (0, 26):
                figures[f"{per_week} a week: fall of {fall:g} in week {begins + 1}"] = delays(per_week, fall, begins)
    keep("feedback", figures)


if __name__ == "__main__":
    main()
