"""The model as one ONNX graph, from uint8 squares to calibrated probabilities, for use without PyTorch.

Needs the extra `cxr[onnx]`. The graph's input is `squares`, uint8 of shape (n, size, size); its output is
`probability`, float32 of shape (n, n_classes). It does not decode images or stretch them to squares; see `cxr.images`.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from cxr.metrics.calibration import Calibration
from cxr.network.onnx_graph import write_graph
from cxr.network.resnet import Classifier
from cxr.recipe import Trainable
from cxr.serving.networks import PackagedNetworks

log = logging.getLogger(__name__)


class _WholePath(nn.Module):
    """From squares to the mean of the folds' calibrated probabilities; layers that the folds share run once."""

    bias: Tensor

    def __init__(self, models: Sequence[Classifier], trainable: Trainable, calibration: Calibration) -> None:
        super().__init__()
        shared, _ = models[0].stages(trainable)
        self.shared = shared
        self.own = nn.ModuleList(model.stages("all")[1][len(shared) :] for model in models)
        self.preprocessing = models[0].preprocessing
        self.register_buffer("bias", torch.tensor(calibration.bias, dtype=torch.float32))
        self.temperature = calibration.temperature

    def forward(self, squares: Tensor) -> Tensor:
        shared = self.shared(self.preprocessing.inputs(squares))
        logits = [self.preprocessing.mean_over_views(own(shared)) for own in self.own]
        folds = [(fold / self.temperature + self.bias).softmax(dim=1) for fold in logits]
        return torch.stack(folds).mean(dim=0)


def export_onnx(path: Path, networks: PackagedNetworks, size: int, calibration: Calibration) -> None:
    """Write the graph with the weights inside, for any number of images.

    Args:
        path: the file to write.
        networks: of the folds.
        size: side of the squares, in pixels.
        calibration: of every fold.
    """
    models = [networks.model(fold) for fold in range(networks.n_folds)]
    whole = _WholePath(models, networks.trainable, calibration).eval()
    example = torch.zeros(2, size, size, dtype=torch.uint8)
    write_graph(whole, example, path, inputs="squares", outputs="probability")
    log.info("exported %s", path.name)
