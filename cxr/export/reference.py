"""The reference of a package: the images that a model was made from, measured, and how novelty is measured.

Drift and novelty of later images are judged by it.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from cxr.evaluation.drift_reference import measure_images
from cxr.images.vitals import fingerprint
from cxr.network.acceleration import accelerate
from cxr.network.resnet import BATCH_SIZE, Classifier
from cxr.serving.novelty import ImageNovelty, brightness_map, fit_novelty
from cxr.storage import verified
from cxr.training.run import Run

N_NOVELTY = 2000
"""Training images that the measure of novelty is fitted on."""
Features = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""A function from grey squares, shape (n, size, size), to features, shape (n, n_features)."""


def reference_of(
    features: Features, run: Run, predictions: pd.DataFrame, probability: NDArray[np.float64]
) -> tuple[pd.DataFrame, ImageNovelty]:
    """Return the images that the model was made from, and the measure of novelty.

    Novelty is fitted on training images of fold 0's network and measured on the images which that network never
    saw, as the images of a batch will be; for the others it is missing.

    Args:
        features: of fold 0's network, in the arithmetic that the package scores in.
        run: finished.
        predictions: the run's out-of-fold table.
        probability: calibrated, shape (n, n_classes).
    """
    squares = run.squares(predictions)
    held_out = (predictions["fold"] == 0).to_numpy()
    novelty = fit_image_novelty(features, squares[spread_evenly(np.flatnonzero(~held_out))])
    distance = np.full(len(predictions), np.nan)
    distance[held_out] = novelty.distance(features(squares[held_out]), squares[held_out])
    measures = measure_images(predictions, verified.read_table(run.folder.manifest), squares)
    images = reference_table(predictions, squares).assign(
        **dict(zip(run.outputs.probability_columns, probability.T, strict=True)), novelty=distance
    )
    return pd.concat([images, measures], axis=1), novelty


def features_of(model: Classifier, run: Run) -> Features:
    """Return the function that a fold's network computes features with: everything in front of its last layer."""
    preprocessing = model.preprocessing
    trunk, _ = model.stages("head")
    forward: Callable[[Tensor], Tensor] = accelerate(
        lambda: trunk,
        "a fold of a package in the making",
        run.devices[0],
        bf16=False,
        n_images=0,
        compile="off",
        cache=run.cache,
    )

    def features(squares: NDArray[np.uint8]) -> NDArray[np.float32]:
        parts = torch.from_numpy(squares).split(BATCH_SIZE)
        outputs = (forward(preprocessing.inputs(part)) for part in parts)
        return torch.cat([preprocessing.mean_over_views(output) for output in outputs]).numpy()

    return features


def fit_image_novelty(features: Features, squares: NDArray[np.uint8]) -> ImageNovelty:
    """Return the measure of novelty, fitted on training images, shape (n, size, size)."""
    return ImageNovelty(fit_novelty(features(squares)), fit_novelty(brightness_map(squares)))


def reference_table(predictions: pd.DataFrame, squares: NDArray[np.uint8]) -> pd.DataFrame:
    """Return what identifies each image and holds no name of a patient or a file.

    Columns: image_id, fingerprint, group, fold, label.
    """
    return pd.DataFrame(
        {
            "image_id": predictions["image_id"],
            "fingerprint": [fingerprint(square) for square in squares],
            "group": predictions["group_id"].factorize()[0],  # a number: an id may name a patient
            "fold": predictions["fold"],
            "label": predictions["label"],
        }
    )


def spread_evenly(rows: NDArray[np.intp], n: int = N_NOVELTY) -> NDArray[np.intp]:
    """Return n of the rows, evenly spread; all where there are fewer."""
    return rows[np.linspace(0, len(rows) - 1, min(n, len(rows)), dtype=int)]
