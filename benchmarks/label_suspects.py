"""Planted label errors: how many of them are among the first label suspects.

    python -m benchmarks.label_suspects --data chest_xray_224.zip
    python -m benchmarks.label_suspects --data chest_xray_224.zip --classifier network --place DIR

In a copy of the set, 3% of the images outside the split `test`, drawn at random, lie in the folder of another class.
A classifier is cross-validated on that copy, by patient; `test` is held out and never opened. Of the planted errors,
the share among the first 3% of the label suspects counts, beside what the probabilities before calibration would have
given. What was wrong in the set already counts as right. Both are compared once more on simulated images of a rare
class.

The classifier is a class-weighted logistic regression on the principal components of the pixels, which takes a minute,
or a ResNet-50 from scratch, as `cxr train` trains it. `--place` keeps that run, and resumes it if it was killed.
"""

import argparse
import hashlib
import tempfile
import time
import zipfile
from collections import defaultdict
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import softmax
from sklearn.datasets import make_classification
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline

from benchmarks.results import keep
from cxr.config import Execution, TrainConfig
from cxr.dataset.examination import examine
from cxr.dataset.listing.layout import SourceImage, list_images
from cxr.evaluation.out_of_fold import OutOfFold
from cxr.evaluation.subgroups import label_suspects
from cxr.images.source import open_source
from cxr.metrics.calibration import calibrate_folds, fit_without_each_fold
from cxr.metrics.confident_learning import rank_labels
from cxr.pipeline import cross_validate
from cxr.storage import verified
from cxr.storage.run_folder import RunFolder
from cxr.training.beginning import begin_run
from cxr.training.run import load_run

HOLDOUT = "test"
SHARE = 0.03
N_SIMULATIONS = 20
RARE = 0.07
N_COMPONENTS = 150


def main() -> None:
    """Plant errors, cross-validate, count what was found, keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--classifier", choices=("linear", "network"), default="linear")
    parser.add_argument("--place", type=Path)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        place = arguments.place or Path(scratch)
        place.mkdir(parents=True, exist_ok=True)
        archive = place / "planted.zip"
        planted = plant_errors(arguments.data, archive, arguments.seed)
        shape = {"size": arguments.size, "epochs": arguments.epochs, "seed": arguments.seed}
        config = TrainConfig(data=str(archive), weights="none", trainable="all", holdout=HOLDOUT, **shape)
        where = Execution(run_id="planted", experiments=place, cache=place / "cache", devices="cpu")
        start = time.perf_counter()
        images = (predict_by_pixels if arguments.classifier == "linear" else predict_by_network)(config, where)
        figures = {"seconds": round(time.perf_counter() - start), "size": arguments.size} | found_in(images, planted)
    keep(f"label_suspects_{arguments.classifier}", figures | found_in_simulations())


def plant_errors(data: str, archive: Path, seed: int) -> set[str]:
    """Write a copy of a data set in which SHARE of the images outside HOLDOUT have a wrong class; return their paths.

    Images of the same bytes count as one and move together; those with a copy in HOLDOUT stay.
    """
    source = open_source(data)
    copies: defaultdict[str, list[SourceImage]] = defaultdict(list)
    for image in list_images(source).images:
        copies[hashlib.sha256(source.read(image.key)).hexdigest()].append(image)
    classes = sorted({images[0].class_folder for images in copies.values()})
    open_to_all = sorted(key for key, images in copies.items() if all(image.split != HOLDOUT for image in images))
    generator = np.random.default_rng(seed)
    drawn = generator.choice(open_to_all, round(SHARE * len(open_to_all)), replace=False).tolist()
    wrong = {key: _another(classes, copies[key][0].class_folder, generator) for key in drawn}
    planted = set()
    with zipfile.ZipFile(archive, "w") as members:
        for key, images in copies.items():
            for image in images:
                path = moved(image.path, wrong[key]) if key in wrong else image.path
                members.writestr(path, source.read(image.key))
                planted |= {path} if key in wrong else set()
    return planted


def _another(classes: list[str], own: str, generator: np.random.Generator) -> str:
    return str(generator.choice([name for name in classes if name != own]))


def moved(path: str, class_folder: str) -> str:
    """Return the path of an image in the folder of another class."""
    place = PurePosixPath(path)
    return str(place.parent.with_name(class_folder) / place.name)


def predict_by_network(config: TrainConfig, where: Execution) -> OutOfFold:
    """Cross-validate a ResNet-50; return its out-of-fold predictions."""
    folder = cross_validate(config, where)
    return OutOfFold(verified.read_table(folder.predictions), load_run(folder).classes)


def predict_by_pixels(config: TrainConfig, where: Execution) -> OutOfFold:
    """Cross-validate a logistic regression on the principal components of the pixels, in the folds of the run."""
    folder = RunFolder.named(where.experiments, "pixels")
    examine(config, folder, cache=where.cache, size=config.size)
    run = begin_run(config, folder, where)
    images = run.images()
    pixels = run.squares(images).reshape(len(images), -1) / np.float32(255)
    positive = (images["label"] == run.classes[1]).to_numpy()
    logit = np.zeros(len(images))
    for fold in range(config.folds):
        held_out = (images["fold"] == fold).to_numpy()
        components = PCA(N_COMPONENTS, whiten=True, random_state=config.seed)
        model = make_pipeline(components, LogisticRegression(class_weight="balanced", C=0.1, max_iter=500))
        model.fit(pixels[~held_out], positive[~held_out])
        logit[held_out] = model.decision_function(pixels[held_out])
    logits = dict(zip(run.classes.logit_columns, (0.0, logit), strict=True))
    return OutOfFold(images.assign(**logits), run.classes)


def found_in(images: OutOfFold, planted: set[str]) -> dict[str, Any]:
    """Return how many planted errors are among the first label suspects, and among all of them."""
    table = label_suspects(images)
    is_planted = table["path"].isin(planted)
    is_first = table["rank"] <= round(SHARE * len(table))
    before = pd.Series(rank_labels(images.probability, images.target).rank, images.predictions["path"])
    was_first = table["path"].map(before) <= is_first.sum()
    by_class = {
        f"found in the first 3%, in {name}": share(is_first, is_planted & (table["label"] == name))
        for name in images.classes
    }
    return {
        "images": len(table),
        "planted": int(is_planted.sum()),
        "ROC-AUC, labels with errors": round(roc_auc_score(images.target, images.probability[:, 1]), 4),
        "found in the first 3%": share(is_first, is_planted),
        **by_class,
        "found in the first 3%, before calibration": share(was_first, is_planted),
        "suspects": int(table["is_suspect"].sum()),
        "found among the suspects": share(table["is_suspect"], is_planted),
        "planted, of the suspects": share(is_planted, table["is_suspect"]),
    }


def share(found: pd.Series, among: pd.Series) -> float:
    """Return the share of images in `among` that are in `found`."""
    return round(float(found[among].mean()), 3)


def found_in_simulations() -> dict[str, float]:
    """Return the share of planted errors among the first images, where one of two classes is rare."""
    shares = np.mean([_simulate(seed) for seed in range(N_SIMULATIONS)], axis=0)
    names = ("rare class, simulated: found in the first 3%", "rare class, before calibration")
    return dict(zip(names, np.round(shares, 3).tolist(), strict=True))


def _simulate(seed: int) -> tuple[float, float]:
    features, truth = make_classification(
        4000, n_informative=8, n_redundant=0, class_sep=1.6, flip_y=0, weights=[1 - RARE], random_state=seed
    )
    planted = np.random.default_rng(seed).permutation(len(truth)) < round(SHARE * len(truth))
    label = np.where(planted, np.logical_not(truth), truth)
    fold = np.empty(len(label), np.int64)
    logits = np.zeros((len(label), 2))
    for number, (seen, held_out) in enumerate(
        StratifiedKFold(5, shuffle=True, random_state=seed).split(features, label)
    ):
        model = LogisticRegression(class_weight="balanced").fit(features[seen], label[seen])
        logits[held_out, 1] = model.decision_function(features[held_out])
        fold[held_out] = number
    calibrated = calibrate_folds(fit_without_each_fold(logits, label, fold), logits, fold)
    ranks = (rank_labels(p, label).rank for p in (calibrated, softmax(logits, axis=1)))
    calibrated, before = (float(planted[rank <= planted.sum()].mean()) for rank in ranks)
    return calibrated, before


if __name__ == "__main__":
    main()
