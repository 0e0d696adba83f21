"""Which rule for the threshold holds on images unlike those that it was chosen on.

    python -m benchmarks.threshold_rules --place DIR

`DIR` is the `--place` of `python -m benchmarks.recipes --folds clusters`. Each fold of its runs leaves out a cluster of
acquisition; network, calibration and threshold of a cluster come from the others. Beside the operating points of a
package stands `worst cluster`: the threshold whose worst cluster among the others has the highest sensitivity +
specificity. A rule is judged by its own worst cluster, and against the present default, `youden`: the interval of their
difference is that of 2,000 draws of patients, in each of which all thresholds are chosen anew. The calibrations stay.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.recipes import N_FOLDS, ROWS, finished_folds, images_of, run_id, seeds_of
from benchmarks.results import keep
from cxr.config import OperatingPoint
from cxr.evaluation.out_of_fold import OutOfFold
from cxr.metrics.calibration import fit_thresholds
from cxr.storage.run_folder import RunFolder

DEFAULT: OperatingPoint = "youden"
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def main() -> None:
    """Judge the rules on every finished run that leaves out clusters, keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--place", type=Path, required=True)
    place = parser.parse_args().place
    figures = {}
    for name in ROWS:
        for seed in seeds_of(place, name, "clusters"):
            folder = RunFolder(place / run_id(name, "clusters", seed))
            if len(finished_folds(folder)) < N_FOLDS:
                continue
            images = images_of(folder)
            table = pd.DataFrame(rates(images, np.arange(len(images.target))))
            rules = judged(table).round(4).merge(gains(images), on="rule")
            figures[f"{name}, seed {seed}, by cluster"] = table.round(4).to_dict("records")
            figures[f"{name}, seed {seed}"] = rules.to_dict("records")
    keep("threshold_rules", figures)


def rates(images: OutOfFold, rows: NDArray[np.int64]) -> Iterator[dict[str, Any]]:
    """Yield sensitivity and specificity of each rule in each cluster, with the threshold that the others chose.

    Args:
        images: each predicted by the fold that left out its cluster.
        rows: indices of the images to look at, with repetitions.
    """
    truth, cluster = images.target[rows] == 1, images.fold[rows]
    for fold, calibration in images.calibrations.items():
        inside = cluster == fold
        probability = calibration.probability(images.logits[rows])[:, 1]
        others = probability[~inside]
        rules = dict(fit_thresholds(others, truth[~inside], calibration.balanced))
        rules |= {"worst cluster": safest(others, truth[~inside], cluster[~inside])}
        for rule, threshold in rules.items():
            sensitivity, specificity = at_threshold(probability[inside], truth[inside], threshold)
            yield {
                "cluster": int(fold),
                "rule": rule,
                "threshold": float(threshold),
                "sensitivity": sensitivity,
                "specificity": specificity,
            }


def gains(images: OutOfFold) -> pd.DataFrame:
    """Return for each rule the 95 % interval of how much its worst cluster is better than that of the default.

    Columns: rule, gain_low, gain_high.
    """
    drawn = images.drawn.astype(np.int64)[:, images.group]
    worst = pd.DataFrame(
        judged(pd.DataFrame(rates(images, np.repeat(np.arange(drawn.shape[1]), counts)))).set_index("rule")[
            "worst_youden"
        ]
        for counts in drawn
    )
    differences = worst.sub(worst[DEFAULT], axis=0)
    bounds = differences.quantile([0.025, 0.975]).round(4).T.set_axis(["gain_low", "gain_high"], axis=1)
    return bounds.rename_axis("rule").reset_index()


def safest(probability: Floats, truth: Bools, cluster: NDArray[np.int64]) -> float:
    """Return the threshold whose worst cluster has the highest sensitivity + specificity."""
    thresholds = np.unique(probability)
    sums = [both_rates(probability[cluster == k], truth[cluster == k], thresholds) for k in np.unique(cluster)]
    return float(thresholds[np.argmax(np.min(sums, axis=0))])


def both_rates(probability: Floats, truth: Bools, thresholds: Floats) -> Floats:
    """Return sensitivity + specificity at each threshold, shape (n_thresholds,)."""
    positive, negative = np.sort(probability[truth]), np.sort(probability[~truth])
    sensitivity = 1 - np.searchsorted(positive, thresholds) / len(positive)
    return sensitivity + np.searchsorted(negative, thresholds) / len(negative)


def at_threshold(probability: Floats, truth: Bools, threshold: float) -> tuple[float, float]:
    """Return sensitivity and specificity of images that are predicted positive from a threshold up."""
    predicted = probability >= threshold
    return float(predicted[truth].mean()), float((~predicted)[~truth].mean())


def judged(table: pd.DataFrame) -> pd.DataFrame:
    """Return for each rule the mean and the worst of its clusters, the best rule first."""
    scored = table.assign(youden=table["sensitivity"] + table["specificity"] - 1)
    rules = scored.groupby("rule").agg(
        worst_youden=("youden", "min"),
        mean_youden=("youden", "mean"),
        worst_sensitivity=("sensitivity", "min"),
        worst_specificity=("specificity", "min"),
    )
    return rules.sort_values("worst_youden", ascending=False).reset_index()


if __name__ == "__main__":
    main()
