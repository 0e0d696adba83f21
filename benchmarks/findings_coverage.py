"""Coverage with several findings: how often a 95% interval contains the true value, of a finding and of their mean.

    python -m benchmarks.findings_coverage

Patients have several images, and of three findings each by itself; one label in five is unknown. Images of a patient
share their findings and a part of their scores. The true values follow from the simulation's normal distributions.
Beside each stands the coverage of the interval that one label gets on the same images, those with an unknown label left
out.
"""

import argparse

import numpy as np
import pandas as pd
from scipy.special import expit
from scipy.stats import norm

from benchmarks.coverage import IMAGE_SD, MOST_IMAGES, N_PATIENTS, PATIENT_SD, SD
from benchmarks.results import keep
from cxr.classes import MACRO, Findings
from cxr.evaluation.findings import estimates_by_finding
from cxr.metrics.bootstrap import Replicates, draw_groups, percentile_interval, replicate_metrics

FINDINGS = Findings(("common", "rarer", "rare"))
SHARES = (0.5, 0.25, 0.1)
EFFECTS = (1.5, 1.0, 2.0)
UNKNOWN = 0.2
METRICS = ("roc_auc", "sensitivity", "specificity")


def true_values() -> dict[str, dict[str, float]]:
    """Return the true value of each metric, by finding and for their mean."""
    by_finding = {
        name: {
            "roc_auc": float(norm.cdf(effect / (SD * np.sqrt(2)))),
            "sensitivity": float(norm.cdf(effect / 2 / SD)),
            "specificity": float(norm.cdf(effect / 2 / SD)),
        }
        for name, effect in zip(FINDINGS, EFFECTS, strict=True)
    }
    mean = {metric: float(np.mean([values[metric] for values in by_finding.values()])) for metric in METRICS}
    return by_finding | {MACRO: mean}


def simulate(seed: int) -> pd.DataFrame:
    """Return images of simulated patients: group_id, finding_<name> and probability_<name>, 0.5 halfway."""
    generator = np.random.default_rng(seed)
    patient = np.repeat(np.arange(N_PATIENTS), generator.integers(1, MOST_IMAGES + 1, N_PATIENTS))
    images = pd.DataFrame({"group_id": patient})
    for k, name in enumerate(FINDINGS):
        is_sick = generator.random(N_PATIENTS) < SHARES[k]
        score = EFFECTS[k] * (is_sick - 0.5) + generator.normal(0, PATIENT_SD, N_PATIENTS)
        seen = score[patient] + generator.normal(0, IMAGE_SD, len(patient))
        is_unknown = generator.random(len(patient)) < UNKNOWN
        images[FINDINGS.columns[k]] = pd.Series(is_sick[patient], dtype="boolean").mask(is_unknown)
        images[f"probability_{name}"] = expit(seen)
    return images


def intervals_of_one_label(images: pd.DataFrame, name: str, seed: int) -> dict[str, tuple[float, float]]:
    """Return the interval of each metric that a model of one label would get for the finding."""
    known = images[images[f"finding_{name}"].notna()]
    truth = known[f"finding_{name}"].to_numpy(bool)
    score = known[f"probability_{name}"].to_numpy(np.float64)
    group = np.unique(known["group_id"], return_inverse=True)[1]
    drawn = draw_groups(int(group.max()) + 1, seed=seed)
    replicates = replicate_metrics(truth, score >= 0.5, score, group, drawn)
    return {metric: percentile_interval(replicates[metric]) for metric in METRICS}


def coverage(n_simulations: int) -> dict[str, float]:
    """Return the share of simulations whose interval contains the true value, by finding and metric."""
    truth = true_values()
    contains: dict[str, list[bool]] = {}
    for seed in range(n_simulations):
        images = simulate(seed)
        for name in FINDINGS:
            for metric, (low, high) in intervals_of_one_label(images, name, seed).items():
                contains.setdefault(f"{name} as one label, {metric}", []).append(low <= truth[name][metric] <= high)
        by_finding = estimates_by_finding(images, FINDINGS, Replicates.of(images["group_id"], seed=seed))
        for name, values in truth.items():
            for metric, value in values.items():
                row = by_finding[name].row(metric)
                contains.setdefault(f"{name}, {metric}", []).append(row["ci_low"] <= value <= row["ci_high"])
    return {name: round(float(np.mean(values)), 3) for name, values in contains.items()}


def main() -> None:
    """Simulate, print the coverage, keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--simulations", type=int, default=1000)
    n_simulations = parser.parse_args().simulations
    keep("findings_coverage", {"simulations": n_simulations, **coverage(n_simulations)})


if __name__ == "__main__":
    main()
