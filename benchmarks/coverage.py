"""Coverage: how often a 95% interval contains the true value, on simulated patients with several images each.

    python -m benchmarks.coverage

Images of a patient share a class and a part of their score, so they are correlated. The true values follow from the
simulation's normal distributions. The command prints the share of simulations whose interval contains them: for the
bootstrap over patients, for one over images (which takes them as independent and is too narrow), and for DeLong's
interval over patients.
"""

import argparse

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from benchmarks.results import keep
from cxr.metrics.bootstrap import draw_groups, percentile_interval, replicate_metrics
from cxr.metrics.delong import auc_interval

N_PATIENTS = 300
MOST_IMAGES = 6
SHARE = 0.6
EFFECT = 1.5
PATIENT_SD = 1.0
IMAGE_SD = 0.5
SD = float(np.hypot(PATIENT_SD, IMAGE_SD))
TRUTH = {
    "roc_auc": float(norm.cdf(EFFECT / (SD * np.sqrt(2)))),
    "sensitivity": float(norm.cdf(EFFECT / 2 / SD)),
    "specificity": float(norm.cdf(EFFECT / 2 / SD)),
}
Simulated = tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.int64]]


def simulate(seed: int) -> Simulated:
    """Return images of simulated patients: whether each is positive, its score, and its patient, each of shape (n,)."""
    generator = np.random.default_rng(seed)
    patient = np.repeat(np.arange(N_PATIENTS), generator.integers(1, MOST_IMAGES + 1, N_PATIENTS))
    is_sick = generator.random(N_PATIENTS) < SHARE
    score = EFFECT * is_sick + generator.normal(0, PATIENT_SD, N_PATIENTS)
    return is_sick[patient], score[patient] + generator.normal(0, IMAGE_SD, len(patient)), patient


def intervals(images: Simulated, group: NDArray[np.int64], seed: int) -> dict[str, tuple[float, float]]:
    """Return the bootstrap interval of each metric; groups of images are drawn with replacement."""
    truth, score, _ = images
    drawn = draw_groups(int(group.max()) + 1, seed=seed)
    replicates = replicate_metrics(truth, score >= EFFECT / 2, score, group, drawn)
    return {metric: percentile_interval(replicates[metric]) for metric in TRUTH}


def coverage(n_simulations: int) -> dict[str, float]:
    """Return the share of simulations whose interval contains the true value, by metric and kind of interval."""
    contains: dict[str, list[bool]] = {}
    for seed in range(n_simulations):
        images = simulate(seed)
        kinds = {"patients": images[2], "images": np.arange(len(images[2]))}
        for kind, group in kinds.items():
            for metric, (low, high) in intervals(images, group, seed).items():
                contains.setdefault(f"{metric}, bootstrap over {kind}", []).append(low <= TRUTH[metric] <= high)
        low, high = auc_interval(*images)
        contains.setdefault("roc_auc, DeLong over patients", []).append(low <= TRUTH["roc_auc"] <= high)
    return {name: round(float(np.mean(values)), 3) for name, values in contains.items()}


def main() -> None:
    """Simulate, print the coverage, keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--simulations", type=int, default=1000)
    n_simulations = parser.parse_args().simulations
    keep("coverage", {"simulations": n_simulations, **coverage(n_simulations)})


if __name__ == "__main__":
    main()
