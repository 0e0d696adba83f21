"""What each ingredient of a recipe is worth on images unlike those it was trained on: a table of ablations.

    python -m benchmarks.recipes --data chest_xray_224.zip --place DIR
    python -m benchmarks.recipes --data chest_xray_224.zip --place DIR --only base flip --seeds 0 1 2

Each row changes one ingredient of the base, the preset `standard` without weights at 64 px. A row is cross-validated
twice: in folds that leave out a cluster of acquisition each, and in random folds, both by patient. The split `test` is
held out and never opened. `--place` keeps the runs; finished ones are not computed again, and one that was killed is
resumed. Threshold-free and at a logit of 0, which class weights make the balanced point and no image has chosen, the
figures of a cluster come from networks that have not seen it.
"""

import argparse
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from benchmarks.results import keep
from cxr.config import Execution, LeaveOut, TrainConfig
from cxr.evaluation.out_of_fold import OutOfFold
from cxr.pipeline import cross_validate
from cxr.storage import verified
from cxr.storage.run_folder import RunFolder
from cxr.training.run import load_run

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


def main() -> None:
    """Train what is missing, then keep a table of all that is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--place", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--folds", nargs="+", choices=FOLDS, default=list(FOLDS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    arguments = parser.parse_args()
    for seed in arguments.seeds:
        for folds in arguments.folds:
            for name in arguments.only:
                train(name, folds, seed, arguments.data, arguments.place)
    table = pd.DataFrame(figures_of(arguments.place))
    keep("recipes", {"rows": table.to_dict("records")})


def run_id(name: str, folds: str, seed: int) -> str:
    """Return the name of a row's run."""
    return f"{folds}-{re.sub('[^a-z0-9.]+', '-', name)}-seed{seed}"


def train(name: str, folds: str, seed: int, data: str, place: Path) -> None:
    """Cross-validate a row unless it has been, and write down the seconds that it took."""
    config = TrainConfig(
        **dict(BASE) | dict(ROWS[name]),
        data=data,
        weights="none",
        holdout="test",
        folds=N_FOLDS,
        leave_out=FOLDS[folds],
        seed=seed,
    )
    where = Execution(run_id=run_id(name, folds, seed), experiments=place, cache=place / "cache")
    start = time.perf_counter()
    cross_validate(config, where)
    print(f"{folds}, {name}, seed {seed}: {time.perf_counter() - start:.0f} s", flush=True)


def figures_of(place: Path) -> list[dict[str, Any]]:
    """Return a row of figures for each run in the folder, in the order of ROWS."""
    return [
        {"recipe": name, "folds": folds, "seed": seed} | figures(RunFolder(place / run_id(name, folds, seed)))
        for name in ROWS
        for folds in FOLDS
        for seed in seeds_of(place, name, folds)
    ]


def seeds_of(place: Path, name: str, folds: str) -> list[int]:
    """Return the seeds of a row's finished runs."""
    start = run_id(name, folds, 0)[:-1]
    finished = [run.path.name for run in map(RunFolder, place.glob(f"{start}*")) if verified.exists(run.predictions)]
    return sorted(int(name.removeprefix(start)) for name in finished)


def figures(folder: RunFolder) -> dict[str, Any]:
    """Return the figures of a run: over its folds the mean and the worst, and all images together."""
    images = OutOfFold(verified.read_table(folder.predictions), load_run(folder).classes)
    margin = images.logits[:, 1] - images.logits[:, 0]
    truth = images.target == 1
    parts = [images.fold == fold for fold in np.unique(images.fold)]
    auc = [roc_auc_score(truth[part], margin[part]) for part in parts]
    sensitivity = [float((margin[part & truth] > 0).mean()) for part in parts]
    specificity = [float((margin[part & ~truth] <= 0).mean()) for part in parts]
    seconds = sum(verified.read_table(folder.fold(k).epochs)["seconds"].sum() for k in range(len(parts)))
    values = {
        "mean ROC-AUC": np.mean(auc),
        "worst ROC-AUC": np.min(auc),
        "pooled ROC-AUC": roc_auc_score(truth, margin),
        "mean sensitivity": np.mean(sensitivity),
        "mean specificity": np.mean(specificity),
        "worst specificity": np.min(specificity),
    }
    return {name: round(float(value), 4) for name, value in values.items()} | {"seconds": round(float(seconds))}


if __name__ == "__main__":
    main()
