"""The model as one ONNX graph, from uint8 squares to calibrated probabilities, for use without PyTorch.

Needs the extra `cxr[onnx]`. The graph's input is `squares`, uint8 of shape (n, size, size); its output is
`probability`, float32 of shape (n, n_classes), or (n, n_findings) of a model that predicts several findings per image.
It does not decode images or stretch them to squares; see `cxr.images`.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from cxr.metrics.calibration import Calibration, CalibrationOfFindings
from cxr.network.acceleration import fold_batch_norm
from cxr.network.onnx_graph import write_graph
from cxr.network.resnet import Classifier
from cxr.recipe import Trainable
from cxr.serving.networks import PackagedNetworks

log = logging.getLogger(__name__)


class _WholePath(nn.Module):
    """From squares to the mean of the folds' calibrated probabilities; layers that the folds share run once."""

    def __init__(self, models: Sequence[Classifier], trainable: Trainable, calibrated: nn.Module) -> None:
        super().__init__()
        shared, _ = models[0].stages(trainable)
        self.shared = shared
        self.own = nn.ModuleList(model.stages("all")[1][len(shared) :] for model in models)
        self.preprocessing = models[0].preprocessing
        self.calibrated = calibrated

    def forward(self, squares: Tensor) -> Tensor:
        shared = self.shared(self.preprocessing.inputs(squares))
        folds = [self.calibrated(self.preprocessing.mean_over_views(own(shared))) for own in self.own]
        return torch.stack(folds).mean(dim=0)


class _CalibratedClasses(nn.Module):
    """From logits to the calibrated probabilities of classes."""

    bias: Tensor

    def __init__(self, calibration: Calibration) -> None:
        super().__init__()
        self.register_buffer("bias", torch.tensor(calibration.bias, dtype=torch.float32))
        self.temperature = calibration.temperature

    def forward(self, logits: Tensor) -> Tensor:
        return (logits / self.temperature + self.bias).softmax(dim=1)


class _CalibratedFindings(nn.Module):
    """From logits to the calibrated probabilities of findings, each by itself."""

    temperature: Tensor
    log_odds: Tensor

    def __init__(self, calibration: CalibrationOfFindings) -> None:
        super().__init__()
        own = calibration.by_finding
        self.register_buffer("temperature", torch.tensor([each.temperature for each in own], dtype=torch.float32))
        self.register_buffer("log_odds", torch.tensor([each.log_odds for each in own], dtype=torch.float32))

    def forward(self, logits: Tensor) -> Tensor:
        return (logits / self.temperature + self.log_odds).sigmoid()


def export_onnx(
    path: Path, networks: PackagedNetworks, size: int, calibration: Calibration | CalibrationOfFindings
) -> None:
    """Write the graph with the weights inside, for any number of images.

    Args:
        path: the file to write.
        networks: of the folds.
        size: side of the squares, in pixels.
        calibration: of every fold.
    """
    models = [networks.model(fold) for fold in range(networks.n_folds)]
    several = isinstance(calibration, CalibrationOfFindings)
    calibrated = _CalibratedFindings(calibration) if several else _CalibratedClasses(calibration)
    whole = fold_batch_norm(_WholePath(models, networks.trainable, calibrated).eval())  # the exporter takes longer
    example = torch.zeros(2, size, size, dtype=torch.uint8)
    write_graph(whole, example, path, inputs="squares", outputs="probability")
    log.info("exported %s", path.name)
