"""Evidence that a ROC-AUC is below what was promised, which may be looked at as often as one likes.

A ROC-AUC is the chance that an image of the class scores higher than another. Patients of both kinds are paired, and on
each pair a bet is placed that the wrong one scores higher. If the ROC-AUC is at least what was promised, no bet wins on
average, so the wealth that was begun with, 1, grows to 20 with a chance of 1 in 20 at most, over all time and however
often it is looked at (Ville's inequality). Nothing is assumed of the scores: no distribution, no large sample.

A bet is the likelihood ratio of a pair under a lower ROC-AUC, one of `FALLS` below the promise in log odds. Where the
fall begins is unknown, so a part of the wealth waits for each later look. Which patients are paired is left to chance:
the wealth is the mean over `N_PAIRINGS` pairings of a look, and each patient is in one look alone.

Several promises share the wealth: with a share of 1 / k each, the chance that any promise which is kept is ever called
broken is at most 1 in 20 (Bonferroni), however the k depend on each other.

Source: Ville, Étude critique de la notion de collectif, 1939; Waudby-Smith & Ramdas, Estimating means of bounded random
variables by betting, J R Stat Soc B 2024; bets that begin at each time: Shin, Ramdas & Rinaldo, E-detectors, N Engl J
Stat Data Sci 2024.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

Floats = NDArray[np.float64]
FALSE_ALARMS = 0.05
"""Chance of a false alarm, at most, over all time."""
SURE = 1 / FALSE_ALARMS
"""Evidence from which a ROC-AUC is surely below the promise."""
FALLS = (0.25, 0.5, 1.0)
"""How far below the promise the bets expect the ROC-AUC, in log odds."""
MOST_PROMISED = 0.99
"""A higher promise counts as this one: a single pair would break a promise of 1."""
NOTICED = 0.05
"""A fall below the promise that the patients have to be enough to notice."""
N_PAIRINGS = 200


@dataclass(frozen=True)
class Look:
    """The patients of one look, who are in no other."""

    wins: Floats
    """Shape (n_positive, n_negative): 1 if the first patient scores higher, 0 if lower, between if images differ."""

    @property
    def n_pairs(self) -> int:
        """How many patients can be paired, each once."""
        return min(self.wins.shape)

    @property
    def roc_auc(self) -> float:
        """The share of all its pairs that are ranked correctly."""
        return float(self.wins.mean())


def wins_of(positive: Sequence[Floats], negative: Sequence[Floats]) -> Floats:
    """Return the share of image pairs that are ranked correctly for each two patients; ties count half.

    Args:
        positive: the scores of each patient with images of the class.
        negative: the scores of each patient without.
    """
    scores = [np.concatenate(list(of_kind)) for of_kind in (positive, negative)]
    higher = scores[0][:, None] - scores[1]
    wins = (np.sign(higher) + 1) / 2
    starts = [np.cumsum([0, *map(len, of_kind)])[:-1] for of_kind in (positive, negative)]
    sizes = [np.array(list(map(len, of_kind))) for of_kind in (positive, negative)]
    summed = np.add.reduceat(np.add.reduceat(wins, starts[0], axis=0), starts[1], axis=1)
    return summed / (sizes[0][:, None] * sizes[1])


def evidence(looks: Sequence[Look], promised: float, *, share: float = 1.0) -> Floats:
    """Return the evidence after each look that the ROC-AUC is below the promise, shape (n_looks,).

    At least SURE, it is sure: if the ROC-AUC of every look is at least what was promised, that ever happens with a
    chance of share × FALSE_ALARMS at most.

    Args:
        looks: in the order in which their labels came.
        promised: the ROC-AUC, above 0; MOST_PROMISED if it is higher.
        share: of the wealth, 1, that this promise begins with.
    """
    promised = min(promised, MOST_PROMISED)
    log_share = math.log(share)
    log_wealth = np.full(len(FALLS), -np.inf)
    found: list[float] = []
    for number, look in enumerate(looks, 1):
        begun = -math.log(number * (number + 1))  # the shares of all looks sum to 1
        log_wealth = np.logaddexp(log_wealth, begun) + _log_factors(look, promised, seed=number)
        waiting = -math.log(number + 1)
        log_mean = np.logaddexp.reduce(log_wealth) - math.log(len(FALLS))
        found.append(
            float(np.exp(min(log_share + np.logaddexp(log_mean, waiting), 700.0)))
        )  # the largest number is e^709
    return np.array(found)


def _log_factors(look: Look, promised: float, *, seed: int) -> Floats:
    """Return the logarithm of what each bet multiplies its wealth by in a look, shape (len(FALLS),)."""
    wins = look.wins if look.wins.shape[0] <= look.wins.shape[1] else look.wins.T
    n_pairs, n_others = wins.shape
    generator = np.random.default_rng(seed)
    partner = generator.random((N_PAIRINGS, n_others)).argsort(axis=1)[:, :n_pairs]
    paired = wins[np.arange(n_pairs), partner]
    fallen = expit(logit(promised) - np.array(FALLS))
    stakes = (promised - fallen) / (promised * (1 - promised))
    log_products = np.stack([np.log1p(stake * (promised - paired)).sum(axis=1) for stake in stakes])
    return np.logaddexp.reduce(log_products, axis=1) - math.log(N_PAIRINGS)


def pairs_needed(promised: float, *, share: float = 1.0) -> int:
    """Return how many pairs it takes, on average, to be sure of a fall by NOTICED from the first look on.

    Args:
        promised: the ROC-AUC, above 0; MOST_PROMISED if it is higher.
        share: as for `evidence`.
    """
    promised = min(promised, MOST_PROMISED)
    fallen = max(promised - NOTICED, promised / 2)
    growth = fallen * math.log(fallen / promised) + (1 - fallen) * math.log((1 - fallen) / (1 - promised))
    return math.ceil(math.log(2 * SURE / share) / growth)
