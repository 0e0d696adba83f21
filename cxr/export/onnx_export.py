"""The model as one ONNX graph, from uint8 squares to calibrated probabilities, for who runs no PyTorch.

Needs the extra `cxr[onnx]`. Decoding and stretching stay outside, as `cxr.images` does them: input `squares`,
uint8 of shape (n, size, size); output `probability`, float32 of shape (n, n_classes).
"""

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from cxr.config import Trainable
from cxr.metrics.calibration import Calibration
from cxr.network.onnx_graph import write_graph
from cxr.network.resnet import Classifier, normalise

log = logging.getLogger(__name__)


class _WholePath(nn.Module):
    """Squares to the mean of the folds' calibrated probabilities; what the folds share runs once."""

    mean: Tensor
    std: Tensor
    bias: Tensor

    def __init__(self, models: Sequence[Classifier], trainable: Trainable, calibration: Calibration) -> None:
        super().__init__()
        shared, _ = models[0].stages(trainable)
        self.shared = shared
        self.own = nn.ModuleList(model.stages("all")[1][len(shared) :] for model in models)
        self.register_buffer("mean", models[0].mean)
        self.register_buffer("std", models[0].std)
        self.register_buffer("bias", torch.tensor(calibration.bias, dtype=torch.float32))
        self.temperature = calibration.temperature

    def forward(self, squares: Tensor) -> Tensor:
        shared = self.shared(normalise(squares.unsqueeze(1).float().div(255), self.mean, self.std))
        folds = [(own(shared) / self.temperature + self.bias).softmax(dim=1) for own in self.own]
        return torch.stack(folds).mean(dim=0)


def export_onnx(
    path: Path, models: Sequence[Classifier], trainable: Trainable, size: int, calibration: Calibration
) -> None:
    """Write the graph, weights inside, for any number of images.

    Args:
        models: one for each fold, in evaluation mode.
        size: side of the squares, in pixels.
    """
    whole = _WholePath(models, trainable, calibration).eval()
    example = torch.zeros(2, size, size, dtype=torch.uint8)
    write_graph(whole, example, path, inputs="squares", outputs="probability")
    log.info("exported %s", path.name)
