"""Evidence that may be looked at every night."""

import itertools
import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from cxr.metrics.sequential import FALLS, SURE, Look, evidence, pairs_needed, wins_of


def look(n_positive: int, n_negative: int, shift: float, seed: int) -> Look:
    generator = np.random.default_rng(seed)
    scores = generator.normal(shift, 1, n_positive), generator.normal(0, 1, n_negative)
    return Look(wins_of(*([np.array([value]) for value in of_kind] for of_kind in scores)))


def test_the_wins_of_patients_with_one_image_give_the_roc_auc_of_scikit_learn() -> None:
    scores = [1.0, 2.0, 2.0, 5.0], [2.0, 0.0, 4.0]
    wins = wins_of(*([np.array([value]) for value in of_kind] for of_kind in scores))
    assert Look(wins).roc_auc == pytest.approx(roc_auc_score([1] * 4 + [0] * 3, [*scores[0], *scores[1]]))


def test_the_wins_of_patients_with_several_images_are_means_over_their_pairs() -> None:
    wins = wins_of([np.array([1.0, 3.0]), np.array([2.0])], [np.array([2.0, 0.0, 3.0])])
    expected = [np.mean([(a > b) + (a == b) / 2 for a in first for b in (2, 0, 3)]) for first in ((1, 3), (2,))]
    assert wins[:, 0] == pytest.approx(expected)


def test_the_evidence_of_single_pairs_is_the_mean_of_likelihood_ratios_over_all_beginnings() -> None:
    promised = 0.8
    pairs = [1.0, 0.0, 0.5, 0.0, 1.0]
    found = evidence([Look(np.array([[win]])) for win in pairs], promised)
    odds = promised / (1 - promised)
    for n_looks in range(1, len(pairs) + 1):
        wealth = []
        for fall in FALLS:
            fallen = odds * math.exp(-fall) / (1 + odds * math.exp(-fall))
            ratio = [win * fallen / promised + (1 - win) * (1 - fallen) / (1 - promised) for win in pairs[:n_looks]]
            begun = [math.prod(ratio[first:]) / ((first + 1) * (first + 2)) for first in range(n_looks)]
            wealth.append(sum(begun) + 1 / (n_looks + 1))
        assert found[n_looks - 1] == pytest.approx(np.mean(wealth))


def test_no_bet_wins_on_average_where_the_promise_is_just_kept() -> None:
    """The mean over all four outcomes of two pairs, each won with the promised chance, is what was begun with."""
    promised = 0.9
    mean = 0.0
    for wins in itertools.product((0.0, 1.0), repeat=2):
        chance = math.prod(promised if win else 1 - promised for win in wins)
        mean += chance * evidence([Look(np.array([[win]])) for win in wins], promised)[-1]
    assert mean == pytest.approx(1)


def test_a_kept_promise_gives_no_evidence_and_a_broken_one_is_found() -> None:
    kept = evidence([look(20, 30, 2.5, seed) for seed in range(40)], 0.9)
    broken = evidence([look(20, 30, 1.0, seed) for seed in range(40)], 0.9)
    assert kept.max() < 2
    assert np.flatnonzero(broken >= SURE)[0] < 6


def test_a_fall_that_begins_late_is_found() -> None:
    shifts = [2.5] * 25 + [1.0] * 15
    found = evidence([look(20, 30, shift, seed) for seed, shift in enumerate(shifts)], 0.9)
    assert found[:25].max() < SURE <= found.max()


def test_the_evidence_does_not_depend_on_the_scale_of_the_scores_and_stays_finite() -> None:
    assert np.isfinite(evidence([look(300, 300, -3.0, seed) for seed in range(30)], 1.0)).all()


def test_fewer_pairs_are_needed_for_a_higher_promise() -> None:
    growth = 0.9 * math.log(0.9 / 0.95) + 0.1 * math.log(0.1 / 0.05)
    assert pairs_needed(0.95) == math.ceil(math.log(40) / growth)
    needed = [pairs_needed(promised) for promised in (0.02, 0.6, 0.8, 0.9, 0.95, 0.99)]
    assert needed[1:] == sorted(needed[1:], reverse=True)
    assert pairs_needed(1.0) == needed[-1]
