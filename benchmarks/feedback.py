"""How often `cxr feedback` calls a kept promise broken, and how late it finds a fall: simulated weeks of labels.

    python -m benchmarks.feedback

Scores are normal, with a ROC-AUC of 95% and a package that promises 94% at least. Each week some patients are
labelled, 30% of them with the finding, an image each, for two years. False alarms are counted where the ROC-AUC is
just what was promised, and where it is 95%; the delay where it falls by 3 or 5 points to 92 or 90%, in the first week
or in the 27th. Beside it stand two rules that know nothing of the number of looks: the 95% interval of the week, or
that of all weeks so far, lies below the promise (DeLong's, as `cxr.metrics.delong` computes it).

Then a model of three classes, of 50, 30 and 20% of the patients, each of which promises 94% against the rest: how
often any class is called broken where all keep what they promise just so, with the wealth shared and with all of it for
each class; and how late a fall of the rarest class to 90% is found.
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
SHARES_OF_CLASSES = (0.5, 0.3, 0.2)
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


def draw_class_weeks(
    generator: np.random.Generator, per_week: int, aucs: tuple[float, ...], n_weeks: int
) -> Iterator[list[Week]]:
    """Yield for each week the scores of each class, for its own patients and the rest; `aucs` has those of classes."""
    shift = np.sqrt(2) * norm.ppf(aucs)
    n_of_class = [round(share * per_week) for share in SHARES_OF_CLASSES]
    label = np.repeat(np.arange(len(aucs)), n_of_class)
    for _ in range(n_weeks):
        score = generator.normal(0, 1, (per_week, len(aucs)))
        score[np.arange(per_week), label] += shift[label]
        yield [(score[label == k, k], score[label != k, k]) for k in range(len(aucs))]


def evidence_by_class(weeks: list[list[Week]], share: float) -> NDArray[np.float64]:
    """Return the evidence that each class is below the promise, shape (n_classes, n_weeks)."""
    by_class = zip(*weeks, strict=True)
    looks = [[Look(wins_of(list(p[:, None]), list(n[:, None]))) for p, n in of_class] for of_class in by_class]
    return np.stack([evidence(of_class, PROMISED, share=share) for of_class in looks])


def false_alarms_of_classes(per_week: int) -> dict[str, float]:
    """Return in which share of the repetitions any of three kept promises is called broken within two years."""
    generator = np.random.default_rng(0)
    kept = (PROMISED,) * len(SHARES_OF_CLASSES)
    highest = np.array(
        [
            evidence_by_class(list(draw_class_weeks(generator, per_week, kept, N_WEEKS)), 1.0).max()
            for _ in range(N_REPETITIONS)
        ]
    )
    n_classes = len(SHARES_OF_CLASSES)
    return {
        "the wealth is shared": float(np.mean(highest / n_classes >= SURE)),
        "all of it for each class": float(np.mean(highest >= SURE)),
    }


def delay_of_a_class(per_week: int) -> dict[str, Any]:
    """Return the median delay of a fall of the rarest class to 90% from the first week on, and what else is found."""
    generator = np.random.default_rng(0)
    fallen = (USUAL, USUAL, USUAL - 0.05)
    share = 1 / len(SHARES_OF_CLASSES)
    late: list[float] = []
    n_others = 0
    for _ in range(N_REPETITIONS):
        is_sure = evidence_by_class(list(draw_class_weeks(generator, per_week, fallen, 52)), share) >= SURE
        week = _first(is_sure[-1])
        late.append(np.inf if week is None else week + 1)
        n_others += int(is_sure[:-1].any())
    median = float(np.median(late))
    return {
        "median weeks": median if np.isfinite(median) else None,
        "found within 52 weeks": float(np.mean(np.isfinite(late))),
        "another class is called broken": n_others / N_REPETITIONS,
    }


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
    figures[f"{few} a week: false alarms of three classes at {PROMISED:g}"] = false_alarms_of_classes(few)
    for per_week in PER_WEEK:
        figures[f"{per_week} a week: fall of 0.05 of one of three classes in week 1"] = delay_of_a_class(per_week)
    keep("feedback", figures)


if __name__ == "__main__":
    main()
