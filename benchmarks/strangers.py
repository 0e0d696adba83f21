"""Images unlike the training images: how many of them are flagged, and how many real held-out images.

    python -m benchmarks.strangers --data chest_xray_224.zip --place DIR

A small ResNet-50 is cross-validated from scratch on the images outside the split `test`, which is never opened. For
each fold, the measure of novelty is fitted on the training images as `cxr package` does it. *Real images:* the held-out
images are split in halves by patient; each half is judged at the limit that the other half sets. *Strangers:* stand-ins
(`benchmarks/stranger_images.py`), judged at the limit that all held-out images set. Both are given for the two parts of
the measure as well, each with a limit of its own. Limits from few images are drawn at random 500 times: how often do
they flag more than 1% of the others?

`--place` keeps the run, and resumes it if it was killed.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from benchmarks.results import keep
from benchmarks.stranger_images import CANVAS_PX, strangers_of
from cxr.config import Execution, TrainConfig
from cxr.dataset.examination import examine
from cxr.dataset.pictures import read_squares
from cxr.export.evaluated import features_of
from cxr.export.reference import fit_image_novelty, spread_evenly
from cxr.images.decoding import stretch
from cxr.serving.novelty import brightness_map, novelty_limit
from cxr.storage.run_folder import RunFolder
from cxr.training.beginning import begin_run
from cxr.training.predictions import load_network
from cxr.training.run import Run
from cxr.training.trainer import train_fold

HOLDOUT = "test"
N_STRANGERS = 200
"""Of each kind and fold."""
N_FEW = (20, 50, 100, 200)
N_REPETITIONS = 500
REAL = "real images"
Distances = Callable[[NDArray[np.uint8]], dict[str, NDArray[np.float64]]]
"""A function from squares, shape (n, size, size), to distances, shape (n,), by part of the measure."""


def main() -> None:
    """Cross-validate, measure, keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--place", type=Path, required=True)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--folds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=3)
    arguments = parser.parse_args()
    shape = {"size": arguments.size, "folds": arguments.folds, "epochs": arguments.epochs}
    config = TrainConfig(data=arguments.data, preset="quick", weights="none", holdout=HOLDOUT, **shape)
    keep("strangers", shape | measure(cross_validate(config, arguments.place)))


def cross_validate(config: TrainConfig, place: Path) -> Run:
    """Train every fold, each with one thread; return the run."""
    where = Execution(run_id="strangers", experiments=place, cache=place / "cache", devices="cpu,cpu", compile="off")
    folder = RunFolder.named(place, "strangers")
    examine(config, folder, cache=where.cache, size=config.size)
    run = begin_run(config, folder, where)
    for fold in range(config.folds):
        train_fold(run, fold, "cpu")
    return run


def measure(run: Run) -> dict[str, Any]:
    """Return the shares of real images and of each kind of stranger that are flagged, by part of the measure."""
    images = run.images()
    squares = run.squares(images)
    tables: list[pd.DataFrame] = []
    few: list[dict[int, float]] = []
    for fold in range(run.config.folds):
        held_out = (images["fold"] == fold).to_numpy()
        distance = _fitted(run, squares[~held_out], fold)
        known = distance(squares[held_out])
        for part, of_part in known.items():
            flagged = flagged_in_halves(of_part, images.loc[held_out, "group_id"], fold)
            tables.append(pd.DataFrame({"kind": REAL, "part": part, "flagged": flagged}))
        for kind, stand_ins in _strangers(run, images[held_out], fold).items():
            for part, of_part in distance(stand_ins).items():
                flagged = of_part > _limit(known[part])
                tables.append(pd.DataFrame({"kind": kind, "part": part, "flagged": flagged}))
        few.append({n: _share_too_low(known["both"], n, fold) for n in N_FEW})
    rows = pd.concat(tables)
    shares = rows.groupby(["kind", "part"], sort=False)["flagged"].mean().round(4).unstack(sort=False)
    return {
        "real images": len(images),
        **{f"flagged, {kind}": of_kind.to_dict() for kind, of_kind in shares.iterrows()},
        **{f"limits of {n} images that flag over 1%": round(float(pd.DataFrame(few)[n].mean()), 3) for n in N_FEW},
    }


def _strangers(run: Run, held_out: pd.DataFrame, fold: int) -> dict[str, NDArray[np.uint8]]:
    """Return stand-ins of each kind, as the squares of the run's size."""
    chosen = held_out.iloc[spread_evenly(np.arange(len(held_out)), N_STRANGERS)]
    read = read_squares(run.config, CANVAS_PX)
    chests = [read(path, image_id) for path, image_id in zip(chosen["path"], chosen["image_id"], strict=True)]
    return {
        kind: np.stack([stretch(Image.fromarray(square), run.config.size) for square in squares])
        for kind, squares in strangers_of(chests, seed=fold)
    }


def _fitted(run: Run, training: NDArray[np.uint8], fold: int) -> Distances:
    """Return the measure of a fold, fitted on its training images as `cxr package` fits it on those of fold 0."""
    features = features_of(load_network(run, fold).eval(), run)
    novelty = fit_image_novelty(features, training[spread_evenly(np.arange(len(training)))])

    def distances(squares: NDArray[np.uint8]) -> dict[str, NDArray[np.float64]]:
        network = novelty.network.distance(features(squares))
        brightness = novelty.brightness.distance(brightness_map(squares))
        return {"both": np.hypot(network, brightness), "network": network, "brightness": brightness}

    return distances


def flagged_in_halves(distance: NDArray[np.float64], group: pd.Series, seed: int) -> NDArray[np.bool_]:
    """Return which images are flagged at the limit that the other half of the patients sets, shape (n,).

    Args:
        distance: of the images, shape (n,).
        group: of each image; no group is in both halves.
        seed: of the halves.
    """
    number, names = pd.factorize(group)
    is_first = (np.random.default_rng(seed).permutation(len(names)) < len(names) / 2)[number]
    flagged = np.empty(len(distance), bool)
    for half in (is_first, ~is_first):
        flagged[half] = distance[half] > _limit(distance[~half])
    return flagged


def _limit(distance: NDArray[np.float64]) -> float:
    limit = novelty_limit(distance)
    if limit is None:
        raise ValueError(f"{len(distance)} distances give no limit")
    return limit


def _share_too_low(distance: NDArray[np.float64], n: int, seed: int) -> float:
    """Return how often a limit from n images flags more than 1% of the others."""
    generator = np.random.default_rng(seed)
    is_over = []
    for _ in range(N_REPETITIONS):
        order = generator.permutation(len(distance))
        limit = _limit(distance[order[:n]])
        is_over.append((distance[order[n:]] > limit).mean() > 0.01)
    return float(np.mean(is_over))


if __name__ == "__main__":
    main()
