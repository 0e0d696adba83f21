"""What each ingredient of a recipe is worth on images unlike those it was trained on: a table of ablations.

    python -m benchmarks.recipes --data chest_xray_224.zip --place DIR
    python -m benchmarks.recipes --data chest_xray_224.zip --place DIR --only base flip --seeds 0 1 2
    python -m benchmarks.recipes --data chest_xray_224.zip --place DIR --folds clusters --only-folds 1
    python -m benchmarks.recipes --data chest_xray_224.zip --place DIR --device cuda:0 --together 15

Each row changes one ingredient of the base, the preset `standard` without weights at 64 px. A row is cross-validated
twice: in folds that leave out a cluster of acquisition each, and in random folds, both by patient. The split `test` is
held out and never opened. Folds of all rows train side by side, `--together` at a time: images of 64 px fill a GPU only
so. `--place` keeps the runs; finished folds are not computed again, and one that was killed is resumed. Threshold-free
and at a logit of 0, which class weights make the balanced point and no image has chosen, the figures of a cluster come
from networks that have not seen it. A row is compared with the base on the folds that are finished in both, on the same
draws of patients.
"""

import argparse
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.results import keep
from cxr.config import Execution, LeaveOut, TrainConfig
from cxr.dataset.examination import examine
from cxr.evaluation.out_of_fold import OutOfFold
from cxr.metrics.estimates import Estimates, average_estimates, estimate
from cxr.storage import verified
from cxr.storage.run_folder import RunFolder
from cxr.training.beginning import begin_run
from cxr.training.run import load_run
from cxr.training.trainer import train_fold

BASE: Mapping[str, Any] = {"size": 64}
ROWS: Mapping[str, Mapping[str, Any]] = {
    "base": {},
    "augmentation: mild": {"augment": "mild"},
    "augmentation: none": {"augment": "none"},
    "grey levels as they are": {"standardise": "none"},
    "no moving average": {"average": 0.0},
    "mixup 0.2": {"mixup": 0.2},
    "label smoothing 0.1": {"label_smoothing": 0.1},
    "focal loss": {"loss": "focal"},
    "no class weights": {"class_weights": False},
    "cosine, warm-up 0.1": {"schedule": "cosine", "warm_up": 0.1},
    "constant learning rate": {"schedule": "constant"},
    "weight decay 0.1": {"weight_decay": 0.1},
    "weight decay 0": {"weight_decay": 0.0},
    "flip": {"flip": True},
    "learning rate 0.0003": {"learning_rate": 3e-4},
    "learning rate 0.003": {"learning_rate": 3e-3},
    "batches of 32": {"batch_size": 32},
    "half the epochs": {"epochs": 18},
    "a quarter of the epochs": {"epochs": 9},
    "the plain recipe": {"augment": "mild", "standardise": "none", "average": 0.0},
    "test views: zoom": {"test_views": "zoom"},
    "residual blocks start as the identity": {"zero_init_residual": True},
    "48 px": {"size": 48},
    "half the epochs at 32 px": {"progressive": 0.5},
}
FOLDS: Mapping[str, LeaveOut] = {"clusters": "cluster", "patients": "patient"}
N_FOLDS = 3
MEAN = "mean of the folds"


@dataclass(frozen=True)
class Trial:
    """Where the rows are trained, and on what."""

    data: str
    place: Path
    device: str
    together: int
    """Folds that train at the same time."""
    base: Mapping[str, Any] = field(default_factory=lambda: BASE)
    """What all rows have in common."""

    def folder(self, row: str, folds: str, seed: int) -> RunFolder:
        """Return the folder of a row's run."""
        return RunFolder(self.place / run_id(row, folds, seed))

    def begin(self, row: str, folds: str, seed: int) -> None:
        """Begin a row's run, or take it up again."""
        config = TrainConfig(
            **dict(self.base) | dict(ROWS[row]),
            data=self.data,
            weights="none",
            holdout="test",
            folds=N_FOLDS,
            leave_out=FOLDS[folds],
            seed=seed,
        )
        folder, cache = self.folder(row, folds, seed), self.place / "cache"
        devices = ",".join([self.device] * min(self.together, N_FOLDS))
        examine(config, folder, cache=cache, size=config.size)
        begin_run(config, folder, Execution(cache=cache, devices=devices))

    def train(self, row: str, folds: str, seed: int, fold: int) -> None:
        """Train a fold of a row, unless it is finished."""
        train_fold(load_run(self.folder(row, folds, seed)), fold, self.device)


def main() -> None:
    """Train what is missing, then keep a table of all that is finished."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--place", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--folds", nargs="+", choices=FOLDS, default=list(FOLDS))
    parser.add_argument("--only-folds", nargs="+", type=int, choices=range(N_FOLDS), default=list(range(N_FOLDS)))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--together", type=int, default=2, help="folds that train at the same time")
    arguments = parser.parse_args()
    trial = Trial(arguments.data, arguments.place, arguments.device, arguments.together)
    rows = [(row, folds, seed) for seed in arguments.seeds for folds in arguments.folds for row in arguments.only]
    train(trial, rows, arguments.only_folds)
    keep("recipes", {"rows": list(figures_of(arguments.place))})


def train(trial: Trial, rows: Sequence[tuple[str, str, int]], folds: Sequence[int] = range(N_FOLDS)) -> None:
    """Train folds of all rows, several at the same time, each row before the next."""
    with ProcessPoolExecutor(trial.together, get_context("spawn"), end_with_parent) as pool:
        pool.submit(trial.begin, *rows[0]).result()  # the first one reads the images
        for begun in [pool.submit(trial.begin, *row) for row in rows[1:]]:
            begun.result()
        started = {pool.submit(trial.train, *row, fold): (*row, fold) for row in rows for fold in folds}
        for trained in as_completed(started):
            trained.result()
            print("trained: {}, left out {}, seed {}, fold {}".format(*started[trained]), flush=True)


def end_with_parent() -> None:
    """Let this process end when the one that started it is killed: nothing trains on unseen."""

    def wait() -> None:
        if parent := parent_process():
            parent.join()
        os._exit(1)

    Thread(target=wait, daemon=True).start()


def run_id(row: str, folds: str, seed: int) -> str:
    """Return the name of a row's run."""
    return f"{folds}-{slug(row)}-seed{seed}"


def slug(row: str) -> str:
    """Return the name of a row as part of the name of a folder."""
    return re.sub("[^a-z0-9.]+", "-", row)


def figures_of(place: Path) -> Iterator[dict[str, Any]]:
    """Yield a row of figures for each run in the folder that has a finished fold, in the order of ROWS."""
    for name in ROWS:
        for folds in FOLDS:
            for seed in seeds_of(place, name, folds):
                folder, base = (RunFolder(place / run_id(row, folds, seed)) for row in (name, "base"))
                finished = finished_folds(folder)
                shared = [fold for fold in finished if fold in finished_folds(base)]
                row = {"recipe": name, "left out": folds, "seed": seed, "folds": finished} | figures(folder, finished)
                yield row | (gain(images_of(base, shared), images_of(folder, shared)) if shared else {})


def seeds_of(place: Path, name: str, folds: str) -> list[int]:
    """Return the seeds of a row's runs that have a finished fold."""
    start = run_id(name, folds, 0)[:-1]
    begun = [run.path.name for run in map(RunFolder, place.glob(f"{start}*")) if finished_folds(run)]
    return sorted(int(name.removeprefix(start)) for name in begun)


def finished_folds(folder: RunFolder) -> list[int]:
    """Return the folds of a run that are finished."""
    return [fold for fold in range(N_FOLDS) if verified.exists(folder.fold(fold).complete)]


def images_of(folder: RunFolder, folds: Sequence[int] = range(N_FOLDS)) -> OutOfFold:
    """Return the images of a run that some of its folds left out, each predicted by that fold."""
    parts = [verified.read_table(folder.fold(fold).predictions) for fold in folds]
    return OutOfFold(pd.concat(parts, ignore_index=True), load_run(folder).classes)


def figures(folder: RunFolder, folds: Sequence[int]) -> dict[str, Any]:
    """Return the figures of a run's finished folds: of each, in the mean, and of all images together."""
    found = estimates(images_of(folder, folds))
    values = {
        f"{part} {metric}": each.values[metric].value
        for part, each in found.items()
        for metric in ("roc_auc", "sensitivity", "specificity")
    }
    seconds = sum(verified.read_table(folder.fold(fold).epochs)["seconds"].sum() for fold in folds)
    return {name: round(float(value), 4) for name, value in values.items()} | {"seconds": round(float(seconds))}


def gain(base: OutOfFold, other: OutOfFold) -> dict[str, float]:
    """Return by how much a recipe's mean ROC-AUC over folds is above that of the base, with its 95 % interval."""
    require_same_images(base, other)
    before, after = estimates(base), estimates(other)
    values = after[MEAN].difference("roc_auc", before[MEAN])
    return {name: round(float(value), 4) for name, value in zip(("gain", "ci_low", "ci_high"), values, strict=True)}


def require_same_images(one: OutOfFold, other: OutOfFold) -> None:
    """Raise RuntimeError if two tables are not of the same images in the same folds."""
    same = ["image_id", "fold", "group_id", "label"]
    if not one.predictions[same].equals(other.predictions[same]):
        raise RuntimeError("a comparison needs the same images in the same folds.")


def estimates(images: OutOfFold) -> dict[str, Estimates]:
    """Return the metrics at a logit of 0 by fold, in the mean over folds and over all images, on the same draws."""
    margin, truth = images.logits[:, 1] - images.logits[:, 0], images.target == 1

    def of(rows: np.ndarray) -> Estimates:
        return estimate(truth[rows], margin[rows] > 0, margin[rows], images.replicates.part(rows))

    by_fold = {f"fold {fold}": of(images.fold == fold) for fold in np.unique(images.fold)}
    return by_fold | {MEAN: average_estimates(by_fold), "pooled": of(np.full(len(truth), True))}


if __name__ == "__main__":
    main()
