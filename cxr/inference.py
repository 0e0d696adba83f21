"""From a fold's trained weights to its predictions on the films it never saw.

Always in float32: these are the numbers that everything published is computed from.
"""

import logging

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from cxr import store
from cxr.experiment import Experiment
from cxr.model import Classifier

log = logging.getLogger(__name__)

BATCH_SIZE = 64


def to_grey(squares: Tensor) -> Tensor:
    """Return uint8 squares (B, H, W) as grey values in [0, 1], shape (B, 1, H, W), channels last."""
    return squares.unsqueeze(1).float().div(255).contiguous(memory_format=torch.channels_last)


@torch.inference_mode()
def predict_logits(model: Classifier, squares: NDArray[np.uint8], device: str) -> NDArray[np.float64]:
    """Return the logits of the films, shape (n, n_classes).

    Args:
        squares: shape (n, size, size).
        device: where the model is.
    """
    # TF32 is what GPUs take for float32 by default
    torch.backends.cudnn.conv.fp32_precision = "ieee"  # pyright: ignore[reportAttributeAccessIssue]
    model.eval()
    batches = torch.from_numpy(squares).split(BATCH_SIZE)
    logits = [model(to_grey(batch.to(device))).cpu() for batch in batches]
    return torch.cat(logits).double().numpy()


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return probabilities, shape (n, n_classes), each row summing to 1."""
    return torch.from_numpy(logits).softmax(dim=1).numpy()


def predict_fold(run: Experiment, fold: int, device: str) -> None:
    """Write the held-out predictions of a fold whose weights are on disk.

    On a CPU with the threads that trained it, so the same weights give the same bits again.
    Columns: image_id, path, group_id, fold, label, subtype, then logit_<class> and probability_<class>.
    """
    torch.set_num_threads(run.n_threads[fold])
    folder = run.folder.fold(fold)
    model = Classifier(len(run.classes))
    model.load_state_dict(load_file(folder.weights))
    model.to(device).to(memory_format=torch.channels_last)
    films = run.films().query("fold == @fold").reset_index(drop=True)
    logits = predict_logits(model, run.squares(films), device)
    scores = np.hstack([logits, softmax(logits)])
    names = [f"{kind}_{name}" for kind in ("logit", "probability") for name in run.classes]
    identity = films[["image_id", "path", "group_id", "fold", "label", "subtype"]]
    store.write_table(folder.predictions, pd.concat([identity, pd.DataFrame(scores, columns=names)], axis=1))
    log.info("fold %d: predicted %d held-out films", fold, len(films))
