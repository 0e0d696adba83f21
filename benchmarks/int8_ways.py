"""Ways to quantise a fold's layers but the last, also such as `cxr package --int8` lacks."""

import io
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd
import torch
from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor, nn

from cxr.export.int8.layers import N_CALIBRATION
from cxr.export.rounding import evenly_spread
from cxr.network.acceleration import fold_batch_norm
from cxr.network.bias_correction import correct_biases
from cxr.network.int8 import PERCENTILE, calibration_images, convolutions_of, load_int8
from cxr.network.onnx_graph import write_graph
from cxr.network.resnet import BATCH_SIZE
from cxr.training.predictions import load_network
from cxr.training.run import Run

N_COMPARED = 64
"""Training images that convolutions are ranked by."""


@dataclass(frozen=True)
class Way:
    """A way to 8-bit integers."""

    ranges: CalibrationMethod = CalibrationMethod.Percentile
    n_images: int = N_CALIBRATION
    """That the ranges are taken from."""
    n_in_float: int = 1
    """How many of the first convolutions stay in float32."""
    n_most_sensitive: int = 0
    """How many more do: those that move the logits furthest, each in integers by itself."""
    corrects_biases: bool = True


WAYS: Mapping[str, Way] = {
    "percentile, biases corrected (as packaged)": Way(),
    "the same, 1,024 images": Way(n_images=1024),
    "the same, first convolution in integers": Way(n_in_float=0),
    "the same, the six most sensitive convolutions in float32": Way(n_in_float=0, n_most_sensitive=6),
    "the same, first stage in float32": Way(n_in_float=11),
    "percentile, biases as they were": Way(corrects_biases=False),
    "smallest and largest value, biases as they were": Way(CalibrationMethod.MinMax, corrects_biases=False),
    "entropy, biases as they were": Way(CalibrationMethod.Entropy, corrects_biases=False),
}


class Quantiser:
    """Quantises layers in several ways; ranges are taken once for all ways that share them.

    Args:
        plain: the layers as an ONNX graph in float32, from `x` to `y`.
        head: the layer after them, in float32, which gives the logits.
        inputs: returns the layers' inputs for a number of calibration images, shape (n, …).
        scratch: folder for what is kept between the ways.
    """

    def __init__(self, plain: Path, head: nn.Module, inputs: Callable[[int], Tensor], scratch: Path) -> None:
        self._plain, self._head, self._inputs, self._scratch = plain, head, inputs, scratch

    def quantise(self, way: Way, path: Path) -> None:
        """Write the layers in 8-bit integers."""
        in_float = convolutions_of(self._plain)[: way.n_in_float]
        if way.n_most_sensitive:
            in_float += self.by_sensitivity()[: way.n_most_sensitive]
        self._write(way, path, in_float=in_float)
        if way.corrects_biases:
            correct_biases(self._plain, path, self._inputs(way.n_images))

    def by_sensitivity(self) -> list[str]:
        """Return the convolutions, first the one that moves the logits furthest when it alone is in integers."""
        return sorted(self.moved_by_each, key=self.moved_by_each.__getitem__, reverse=True)

    @cached_property
    def moved_by_each(self) -> dict[str, float]:
        """How far each convolution alone moves the logits: their change's standard deviation, the mean over classes."""
        inputs = self._inputs(N_COMPARED)
        exact = self.logits(load_int8(self._plain), inputs)
        alone = self._scratch / "alone.onnx"
        moved = {}
        for name in convolutions_of(self._plain):
            self._write(Way(), alone, alone=[name])
            moved[name] = float((self.logits(load_int8(alone), inputs) - exact).std(dim=0).mean())
        return moved

    @torch.inference_mode()
    def logits(self, layers: Callable[[Tensor], Tensor], inputs_N: Tensor) -> Tensor:
        """Return the logits that layers and the last one give, shape (n, n_classes)."""
        return self._head(layers(inputs_N)).double()

    def _write(self, way: Way, path: Path, *, in_float: Sequence[str] = (), alone: Sequence[str] = ()) -> None:
        ranges = self._scratch / f"{way.ranges.name}-{way.n_images}.json"
        images = None if ranges.exists() else calibration_images(self._inputs(way.n_images))
        with redirect_stdout(io.StringIO()):
            quantize_static(
                self._plain,
                path,
                images,
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                nodes_to_quantize=list(alone),  # all that are not excluded, if there are none
                nodes_to_exclude=list(in_float),
                calibrate_method=way.ranges,
                calibration_cache_path=ranges,
                extra_options={"CalibPercentile": PERCENTILE, "CalibStridedMinMax": 1},
            )


class FoldInIntegers:
    """A fold's layers but the last, to be quantised with its training images and judged on those held out.

    Args:
        run: the finished run.
        images: its out-of-fold predictions.
        fold: number of the fold.
        scratch: folder for what is kept between the ways.
    """

    def __init__(self, run: Run, images: pd.DataFrame, fold: int, scratch: Path) -> None:
        model = load_network(run, fold).eval()
        self._run, self._preprocessing = run, model.preprocessing
        self.is_held_out = (images["fold"] == fold).to_numpy()
        self._held_out = images[self.is_held_out]
        training = images[~self.is_held_out]
        layers, head = model.stages("head")
        place = scratch / f"fold-{fold}"
        place.mkdir()
        plain = self._write_plain(layers, self._inputs(training.head(2)), place)
        self.quantiser = Quantiser(plain, head, lambda n: self._inputs(evenly_spread(training, n)), place)

    @staticmethod
    def _write_plain(layers: nn.Module, example_N: Tensor, folder: Path) -> Path:
        exact, plain = folder / "exact.onnx", folder / "plain.onnx"
        write_graph(fold_batch_norm(layers), example_N, exact, inputs="x", outputs="y")
        quant_pre_process(exact, plain, skip_symbolic_shape=True)
        return plain

    def held_out(self) -> Tensor:
        """Return the inputs for the held-out images, shape (n, …)."""
        return self._inputs(self._held_out)

    @torch.inference_mode()
    def _inputs(self, images: pd.DataFrame) -> Tensor:
        parts = torch.from_numpy(self._run.squares(images)).split(BATCH_SIZE)
        return torch.cat([self._preprocessing.inputs(part) for part in parts])
