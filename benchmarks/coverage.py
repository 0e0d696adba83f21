"""Coverage: how often a 95 % interval holds the truth, on simulated patients with several images each.

    python -m benchmarks.coverage

Images of a patient share a class and a part of their score, so they are alike. The true values are known from the
simulation's normal distributions. Prints the share of simulations whose interval holds them, for the bootstrap
over patients, for one over images (which takes them for strangers and is too narrow), and for DeLong's interval
over patients.
"""

import argparse

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from benchmarks.results import keep
from cxr.metrics.bootstrap import draw_groups, percentile_interval, replicate_metrics
from cxr.metrics.delong import auc_interval

N_PATIENTS, MOST_IMAGES, SHARE = 300, 6, 0.6
EFFECT, OF_PATIENT, OF_IMAGE = 1.5, 1.0, 0.5
SD = float(np.hypot(OF_PATIENT, OF_IMAGE))
TRUTH = {
    "roc_auc": float(norm.cdf(EFFECT / (SD * np.sqrt(2)))),
    "sensitivity": float(norm.cdf(EFFECT / 2 / SD)),
    "specificity": float(norm.cdf(EFFECT / 2 / SD)),
}
Simulated = tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.int64]]


def simulate(seed: int) -> Simulated:
    """Return images of simulated patients: is it of the class, its score, and its patient, each of shape (n,)."""
    generator = np.random.default_rng(seed)
    patient = np.repeat(np.arange(N_PATIENTS), generator.integers(1, MOST_IMAGES + 1, N_PATIENTS))
    is_sick = generator.random(N_PATIENTS) < SHARE
    score = EFFECT * is_sick + generator.normal(0, OF_PATIENT, N_PATIENTS)
    return is_sick[patient], score[patient] + generator.normal(0, OF_IMAGE, len(patient)), patient


def intervals(images: Simulated, group: NDArray[np.int64], seed: int) -> dict[str, tuple[float, float]]:
    """Return the bootstrap's interval of each metric, the images' groups drawn with replacement."""
    truth, score, _ = images
    drawn = draw_groups(int(group.max()) + 1, seed=seed)
    replicates = replicate_metrics(truth, score >= EFFECT / 2, score, group, drawn)
    return {metric: percentile_interval(replicates[metric]) for metric in TRUTH}


def coverage(n_simulations: int) -> dict[str, float]:
    """Return the share of simulations whose interval holds the truth, by metric and kind of interval."""
    held: dict[str, list[bool]] = {}
    for seed in range(n_simulations):
        images = simulate(seed)
        kinds = {"patients": images[2], "images": np.arange(len(images[2]))}
        for kind, group in kinds.items():
            for metric, (low, high) in intervals(images, group, seed).items():
                held.setdefault(f"{metric}, bootstrap over {kind}", []).append(low <= TRUTH[metric] <= high)
        low, high = auc_interval(*images)
        held.setdefault("roc_auc, DeLong over patients", []).append(low <= TRUTH["roc_auc"] <= high)
    return {name: round(float(np.mean(values)), 3) for name, values in held.items()}


def main() -> None:
    """Simulate, print the coverage, keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--simulations", type=int, default=1000)
    n_simulations = parser.parse_args().simulations
    keep("coverage", {"simulations": n_simulations, **coverage(n_simulations)})


if __name__ == "__main__":
    main()
