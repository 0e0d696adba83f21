"""From a fold's trained weights to its predictions on the images it never saw.

What was trained runs in float32: these are the numbers that everything published is computed from.
"""

import hashlib
import logging

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load
from scipy.special import softmax
from torch import Tensor

from cxr.errors import RunError
from cxr.network.resnet import BATCH_SIZE, Classifier, predict_logits
from cxr.storage import events, files
from cxr.training import features
from cxr.training.run import Run

log = logging.getLogger(__name__)

N_COMPARED = 16
"""Held-out images of a fold on which features and whole network are compared."""


def load_network(run: Run, fold: int) -> Classifier:
    """Return the network of a fold that has been trained, on the CPU; errors as for `read_weights`."""
    model = Classifier(len(run.classes))
    model.load_state_dict(read_weights(run, fold))
    return model


def predict_fold(run: Run, fold: int, device: str) -> float:
    """Write the held-out predictions of a fold whose weights are on disk.

    On a CPU with the threads that trained it, so the same weights give the same bits again. Where layers
    are frozen their cached features are used, the same that the other layers were trained on.
    Columns: image_id, path, group_id, fold, label, subtype, then logit_<class> and probability_<class>.

    Returns:
        The largest probability difference, on a few of the images, from the whole network in float32: what
        bfloat16 in the frozen layers costs; 0 where none are frozen.
    """
    with events.stage(run.folder.events, "predict", fold=fold, device=device) as stage:
        torch.set_num_threads(run.n_threads[fold])
        model = load_network(run, fold).to(device).to(memory_format=torch.channels_last)
        images = run.images().query("fold == @fold").reset_index(drop=True)
        stage.n_images = len(images)
        logits, difference = _held_out_logits(run, model, images, device)
        scores = np.hstack([logits, softmax(logits, axis=1)])
        names = [f"{kind}_{name}" for kind in ("logit", "probability") for name in run.classes]
        identity = images[["image_id", "path", "group_id", "fold", "label", "subtype"]]
        table = pd.concat([identity, pd.DataFrame(scores, columns=names)], axis=1)
        files.write_table(run.fold_folder(fold).predictions, table)
        log.info("fold %d: predicted %d held-out images", fold, len(images))
        return difference


def _held_out_logits(
    run: Run, model: Classifier, images: pd.DataFrame, device: str
) -> tuple[NDArray[np.float64], float]:
    if run.config.trainable == "all":
        return predict_logits(model, run.squares(images), device), 0.0
    features.extract(run, device)
    logits = _logits_from_features(run, model, images, device)
    few = np.linspace(0, len(images) - 1, min(N_COMPARED, len(images)), dtype=int)
    reference = predict_logits(model, run.squares(images.iloc[few]), device)
    return logits, float(np.abs(softmax(logits[few], axis=1) - softmax(reference, axis=1)).max())


def read_weights(run: Run, fold: int) -> dict[str, Tensor]:
    """Return a trained fold's weights.

    Raises:
        RunError: they are not those that training has written.
    """
    folder = run.fold_folder(fold)
    expected = files.read_json(folder.complete).get("weights_sha256") if folder.complete.exists() else None
    data = files.read_bytes(folder.weights)
    try:
        if expected not in (None, hashlib.sha256(data).hexdigest()):
            raise ValueError("another hash")
        return load(data)
    except (ValueError, SafetensorError) as error:
        raise RunError(
            f"the weights of fold {fold} are damaged ({error}): put back a copy of {str(folder.weights)!r}, or train "
            f"the fold anew: type the run's `cxr train` with --redo-fold {fold}."
        ) from error


@torch.inference_mode()
def _logits_from_features(run: Run, model: Classifier, images: pd.DataFrame, device: str) -> NDArray[np.float64]:
    _, trained = model.eval().stages(run.config.trainable)
    kept, image_ids = features.open_features(run, 0, device), images["image_id"].tolist()
    starts = range(0, len(image_ids), BATCH_SIZE)
    batches = (torch.from_numpy(kept.load(image_ids[k : k + BATCH_SIZE])) for k in starts)
    logits = [trained(batch.to(device, torch.float32)).cpu() for batch in batches]
    return torch.cat(logits).double().numpy()
