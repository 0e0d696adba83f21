"""What drift and novelty are judged by: the images that a model was made from, measured."""

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from cxr.images.vitals import fingerprint, measure_levels
from cxr.network.acceleration import accelerate
from cxr.network.resnet import BATCH_SIZE, normalise, to_grey
from cxr.serving.networks import PackagedNetworks
from cxr.serving.novelty import ImageNovelty, fit_novelty, layout
from cxr.storage import files
from cxr.training.run import Run

N_NOVELTY = 2000
"""Training images that the measure of novelty is fitted on."""


def reference_of(
    networks: PackagedNetworks, run: Run, predictions: pd.DataFrame, probability: NDArray[np.float64]
) -> tuple[pd.DataFrame, ImageNovelty]:
    """Return the images that the model was made from, and the measure of novelty.

    Novelty is fitted on training images of fold 0's network and measured on the images which that network never
    saw, as the images of a batch will be; for the others it is missing.
    """
    manifest = files.read_table(run.folder.manifest).drop_duplicates("path").set_index("path")
    squares = run.squares(predictions)
    levels = pd.DataFrame([vars(measure_levels(square)) for square in squares])
    sizes = manifest.loc[predictions["path"], ["width", "height", "chroma"]].reset_index(drop=True)
    columns = {f"probability_{name}": probability[:, k] for k, name in enumerate(run.classes)}
    held_out = (predictions["fold"] == 0).to_numpy()
    training = np.flatnonzero(~held_out)
    fitted_on = training[np.linspace(0, len(training) - 1, min(N_NOVELTY, len(training)), dtype=int)]
    model = networks.model(0)
    trunk, _ = model.stages("head")
    forward = accelerate(
        lambda: trunk,
        "fold 0 of a package in the making",
        run.devices[0],
        bf16=False,
        n_images=0,
        compile="off",
        cache=run.cache,
    )

    def features(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        parts = torch.from_numpy(images).split(BATCH_SIZE)
        return torch.cat([forward(normalise(to_grey(part), model.mean, model.std)) for part in parts]).numpy()

    known = squares[fitted_on]
    novelty = ImageNovelty(fit_novelty(features(known)), fit_novelty(layout(known)))
    distance = np.full(len(predictions), np.nan)
    distance[held_out] = novelty.distance(features(squares[held_out]), squares[held_out])
    images = pd.DataFrame(
        {
            "image_id": predictions["image_id"],
            "fingerprint": [fingerprint(square) for square in squares],
            "group": predictions["group_id"].factorize()[0],  # a number: an id may name a patient
            "fold": predictions["fold"],
            "label": predictions["label"],
            **columns,
            "novelty": distance,
        }
    )
    return pd.concat([images, sizes, levels], axis=1), novelty
