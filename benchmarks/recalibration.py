"""Thresholds on an outside test set: fixed beforehand, or recalibrated with a few of its images.

    cxr report RUN --open-test
    python -m benchmarks.recalibration --run experiments/RUN

The run holds a test set out, and the set was opened. In each repetition 25, 50 or 100 of its images are drawn at random
as the labelled images of `cxr recalibrate`; calibration and thresholds are fitted to them; sensitivity and specificity
are measured on the images of all other patients, at these thresholds and at those that were fixed beforehand. A draw
that the command would refuse, with fewer than 5 images of a class, is counted and drawn again. Nothing is chosen here:
the recipe, the priors and the rules for thresholds are what they were.

The table of the test set has the folds' mean probability. The map is fitted to its logarithm, as if to one fold; a
package maps each fold's, and averages afterwards. `--external NAME` takes an external test set of the run instead.
"""

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit, logit

from benchmarks.results import keep
from cxr.classes import Classes
from cxr.errors import RunError
from cxr.metrics.recalibration import expected_thresholds, fit_recalibration, log_of
from cxr.recalibration.labelled_images import LEAST
from cxr.storage import verified
from cxr.storage.run_folder import OutsideTestFolder, RunFolder

N_LABELLED = (25, 50, 100)
N_REPETITIONS = 200
MOST_DRAWS = 20 * N_REPETITIONS
"""A test set from which fewer draws hold enough images of both classes is too uneven."""
Rates = dict[str, float]
"""Sensitivity and specificity, by `<operating point>, <rate>`."""


def judge(
    images: pd.DataFrame, thresholds: Mapping[str, float], classes: Classes, n_labelled: int, *, seed: int = 0
) -> tuple[pd.DataFrame, int]:
    """Return the rates of each repetition, and how many draws had too few images of a class.

    The table has a row per repetition and kind (`fixed`, `recalibrated`), with the columns of Rates.

    Args:
        images: columns label, group_id and probability_<class>, of the folds' mean.
        thresholds: of each operating point, fixed beforehand.
        classes: two.
        n_labelled: images that are drawn in each repetition.
        seed: of the draws.
    """
    probability = images[classes.probability_columns].to_numpy(float)
    truth = (images["label"] == classes.positive).to_numpy()
    group = images["group_id"].to_numpy()
    balanced = float(logit(thresholds["balanced"]))
    rows: list[dict[str, Any]] = []
    n_refused = 0
    for labelled in _draws(truth, n_labelled, seed):
        if labelled is None:
            n_refused += 1
            continue
        others = ~np.isin(group, group[labelled])
        new, found = _recalibrated(probability, truth, labelled, balanced)
        rows.append({"kind": "fixed"} | _rates(probability[others, 1], truth[others], thresholds))
        rows.append({"kind": "recalibrated"} | _rates(new[others], truth[others], found))
    return pd.DataFrame(rows), n_refused


def _draws(truth: NDArray[np.bool_], n_labelled: int, seed: int) -> Iterator[NDArray[np.int64] | None]:
    """Yield the rows of each repetition; None for a draw that would be refused.

    Raises:
        RunError: too many are.
    """
    generator = np.random.default_rng(seed)
    n_drawn = 0
    for _ in range(MOST_DRAWS):
        drawn = generator.choice(len(truth), n_labelled, replace=False)
        n_positive = int(truth[drawn].sum())
        is_enough = min(n_positive, n_labelled - n_positive) >= LEAST
        yield drawn if is_enough else None
        n_drawn += is_enough
        if n_drawn == N_REPETITIONS:
            return
    raise RunError(f"of {MOST_DRAWS} draws of {n_labelled} images only {n_drawn} hold {LEAST} of each class.")


def _recalibrated(
    probability: NDArray[np.float64], truth: NDArray[np.bool_], labelled: NDArray[np.int64], balanced: float
) -> tuple[NDArray[np.float64], Mapping[str, float]]:
    """Return the new probabilities of all images, shape (n,), and the thresholds, fitted to the labelled ones."""
    once = np.ones(len(labelled))
    log_probability = log_of(probability)[None]
    fitted = fit_recalibration(log_probability[:, labelled], truth[labelled].astype(np.int64), once)
    new = fitted.probability(log_probability)[:, 1]
    equal = float(expit(fitted.odds_of(balanced)))
    return new, {**expected_thresholds(new[labelled], truth[labelled], once, equal)}


def _rates(score: NDArray[np.float64], truth: NDArray[np.bool_], thresholds: Mapping[str, float]) -> Rates:
    rates: Rates = {}
    for point, threshold in thresholds.items():
        is_positive = score >= threshold
        rates[f"{point}, sensitivity"] = float(is_positive[truth].mean())
        rates[f"{point}, specificity"] = float((~is_positive[~truth]).mean())
    return rates


def summary(rates: pd.DataFrame, kind: str) -> dict[str, str]:
    """Return `mean ± sd [2.5%, 97.5%]` over the repetitions of each rate, in percent."""
    of_kind = 100 * rates[rates["kind"] == kind].drop(columns="kind").dropna(axis=1)
    bounds = of_kind.quantile([0.025, 0.975])
    return {
        str(name): f"{values.mean():.1f} ± {values.std():.1f} [{bounds[name].iloc[0]:.1f}, {bounds[name].iloc[1]:.1f}]"
        for name, values in of_kind.items()
    }


def _opened(folder: OutsideTestFolder, run: RunFolder) -> tuple[pd.DataFrame, dict[str, float]]:
    """Return an outside test set's predictions and the thresholds that were fixed beforehand."""
    if not verified.exists(folder.predictions):
        raise RunError(f"{str(folder.path)!r} holds no results: type `cxr report {run.run_id} --open-test` first.")
    fixed = verified.read_table(folder.metrics).drop_duplicates("operating_point").set_index("operating_point")
    return verified.read_table(folder.predictions), {str(k): float(v) for k, v in fixed["threshold"].items()}


def main() -> None:
    """Draw, recalibrate, measure, keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True, help="folder of a run whose test set was opened")
    parser.add_argument("--external", help="name of the folder of an external test set of the run")
    options = parser.parse_args()
    run = RunFolder(options.run.resolve())
    folder = (
        OutsideTestFolder(run.path / "external_tests" / options.external) if options.external else run.held_out_test
    )
    images, thresholds = _opened(folder, run)
    classes = Classes(verified.read_record(run.config)["classes"])
    if not classes.is_binary:
        raise RunError(f"run {run.run_id!r} has {len(classes)} classes: thresholds are for two.")
    figures: dict[str, Any] = {"run": run.run_id, "n_images": len(images), "repetitions": N_REPETITIONS}
    figures["positive images"] = int((images["label"] == classes.positive).sum())
    for n_labelled in N_LABELLED:
        if 2 * n_labelled > len(images):
            figures[f"{n_labelled} labelled"] = "too few images are left to judge on"
            continue
        rates, n_refused = judge(images, thresholds, classes, n_labelled)
        figures[f"{n_labelled} labelled: draws refused"] = n_refused
        for kind in ("fixed", "recalibrated"):
            figures |= {f"{n_labelled} labelled: {kind}, {name}": text for name, text in summary(rates, kind).items()}
    keep("recalibration", figures)


if __name__ == "__main__":
    main()
