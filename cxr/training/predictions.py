"""From a fold's trained weights to its predictions on the held-out images.

The trained layers run in float32: every published number is computed from these predictions.
"""

import logging
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from safetensors.torch import load
from torch import Tensor

from cxr.classes import Findings
from cxr.metrics.link import probabilities
from cxr.network.devices import resolve_device
from cxr.network.resnet import BATCH_SIZE, Classifier, predict_logits
from cxr.storage import events, verified
from cxr.storage.image_arrays import ImageArrays
from cxr.training import features
from cxr.training.run import Run

log = logging.getLogger(__name__)

N_COMPARED = 16
"""Held-out images of a fold on which the cached features are compared with the whole network."""


def load_network(run: Run, fold: int) -> Classifier:
    """Return a trained fold's network, on the CPU; raise as `read_weights` does."""
    return Classifier.from_weights(len(run.outputs), read_weights(run, fold))


def ensemble_logits(run: Run, squares: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return what every fold's network says of images, in float32, on a GPU if there is one.

    Args:
        run: finished; the machine need not have the devices that it was trained on.
        squares: shape (n, size, size).

    Returns:
        Logits, shape (n_folds, n, n_classes).
    """
    device = resolve_device("auto")
    return np.stack(
        [predict_logits(load_network(run, fold).to(device), squares, device) for fold in range(run.config.folds)]
    )


def predict_fold(run: Run, fold: int, device: str, views: Sequence[ImageArrays] = ()) -> float:
    """Write the held-out predictions of a fold whose weights are on disk.

    On a CPU, as many threads as trained the fold predict, so that the same weights give the same bits. Frozen layers
    are not run again: their cached features are used, on which the other layers were trained. Logits are averaged over
    the test-time views.
    Columns: image_id, path, group_id, fold, label, subtype, then logit_<class> and probability_<class>; for findings
    finding_<name>, and then the same of each finding.

    Args:
        run: the run.
        fold: number of the fold.
        device: cpu, or cuda:<index>.
        views: the store of each view's features, as `features.extract` returns them; by default it is called here.

    Returns:
        The largest probability difference, on a few of the images, from the whole network in float32: the cost of
        bfloat16 in the frozen layers; 0 if none are frozen.
    """
    with events.stage(run.folder.events, "predict", fold=fold, device=device) as stage:
        torch.set_num_threads(run.n_threads[fold])
        model = load_network(run, fold).to(device).to(memory_format=torch.channels_last)
        images = run.images().query("fold == @fold").reset_index(drop=True)
        stage.n_images = len(images)
        logits, difference = _held_out_logits(run, model, images, device, views)
        scores = np.hstack([logits, probabilities(logits, run.outputs.link)])
        columns = [*run.outputs.logit_columns, *run.outputs.probability_columns]
        labels = ["label", "subtype", *(run.outputs.columns if isinstance(run.outputs, Findings) else ())]
        identity = images[["image_id", "path", "group_id", "fold", *labels]]
        table = pd.concat([identity, pd.DataFrame(scores, columns=columns)], axis=1)
        verified.write_table(run.fold_folder(fold).predictions, table)
        log.info("fold %d: predicted %d held-out images", fold, len(images))
        return difference


def _held_out_logits(
    run: Run, model: Classifier, images: pd.DataFrame, device: str, views: Sequence[ImageArrays]
) -> tuple[NDArray[np.float64], float]:
    """Return the images' logits, shape (n, n_classes), and the largest difference that cached features make."""
    if run.config.trainable == "all":
        return predict_logits(model, run.squares(images), device), 0.0
    stores = views or features.extract(run, device)
    seen = (stores[0], *stores[run.config.views :])
    logits = np.mean([_logits_from_features(run, model, images, store, device) for store in seen], axis=0)
    few = np.linspace(0, len(images) - 1, min(N_COMPARED, len(images)), dtype=int)
    reference = predict_logits(model, run.squares(images.iloc[few]), device)
    link = run.outputs.link
    return logits, float(np.abs(probabilities(logits[few], link) - probabilities(reference, link)).max())


def read_weights(run: Run, fold: int) -> dict[str, Tensor]:
    """Return a trained fold's state dict; raise DamagedError if the file is not as training wrote it."""
    return load(verified.read_bytes(run.fold_folder(fold).weights))


@torch.inference_mode()
def _logits_from_features(
    run: Run, model: Classifier, images: pd.DataFrame, features: ImageArrays, device: str
) -> NDArray[np.float64]:
    _, trained = model.eval().stages(run.config.trainable)
    image_ids = images["image_id"].tolist()
    starts = range(0, len(image_ids), BATCH_SIZE)
    batches = (torch.from_numpy(features.load(image_ids[k : k + BATCH_SIZE])) for k in starts)
    logits = [trained(batch.to(device, torch.float32)).cpu() for batch in batches]
    return torch.cat(logits).double().numpy()
