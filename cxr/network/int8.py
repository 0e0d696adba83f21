"""Layers in 8-bit integers, for CPUs with instructions for them. Needs the extra `cxr[int8]`.

Weights are quantised per channel, activations per tensor, to the range of all but the outermost of their values on
calibration images; biases then take off what this moves the means by (`cxr.network.bias_correction`). ONNX Runtime
builds the graph, and OpenVINO runs it. A sum of integers does not depend on its order, so an image has the same output
in every batch. Whether rounding this coarse is good enough for a model is judged when it is packaged, by
`cxr.export.int8.verdict`.
"""

import functools
import importlib.util
import io
import logging
import tempfile
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from cxr.network.acceleration import batch_size, fold_batch_norm
from cxr.network.onnx_graph import write_graph
from cxr.storage import files

if TYPE_CHECKING:
    from onnxruntime.quantization import CalibrationDataReader
    from openvino import Core

log = logging.getLogger(__name__)

ABILITIES = ("avx512_vnni", "avx_vnni", "amx_int8")
"""A processor with one of these adds products of 8-bit integers without overflow; others are slow or wrong."""
PERCENTILE = 99.999
"""Share of an activation's values that its range holds, in percent."""
CALIBRATION_BATCH = 16
"""Images whose activations are in memory together, about 45 MB each at 224 px."""


def int8_hindrance(device: str) -> str | None:
    """Return why layers cannot run in 8-bit integers on a device; None if they can."""
    if device != "cpu":
        return f"8-bit integers need a CPU, and the device is {device}"
    abilities = torch.cpu.get_capabilities()
    if not any(abilities.get(name) for name in ABILITIES):
        return f"this processor has none of {', '.join(ABILITIES)}"
    if importlib.util.find_spec("openvino") is None:
        return "openvino is missing: install cxr with the extra [int8]"
    return None


def quantise(layers: nn.Module, inputs_N: Tensor, path: Path, *, first_in_float: bool) -> None:
    """Write layers as an ONNX graph that computes in 8-bit integers.

    Args:
        layers: in evaluation mode; changed in place.
        inputs_N: their inputs for the calibration images, shape (n, …).
        path: the file to write.
        first_in_float: leave the first convolution in float32.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    from cxr.network.bias_correction import correct_biases

    with (
        tempfile.TemporaryDirectory() as scratch,
        files.replacing(path) as temporary,
        redirect_stdout(io.StringIO()),  # quantize_static prints what it does
    ):
        exact = Path(scratch) / "exact.onnx"
        plain = Path(scratch) / "plain.onnx"
        write_graph(fold_batch_norm(layers), inputs_N[:2].contiguous(), exact, inputs="x", outputs="y")
        quant_pre_process(exact, plain, skip_symbolic_shape=True)
        quantize_static(
            plain,
            temporary,
            calibration_images(inputs_N),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.Percentile,
            nodes_to_exclude=convolutions_of(plain)[:1] if first_in_float else [],
            extra_options={"CalibPercentile": PERCENTILE, "CalibStridedMinMax": 1},  # the second: batch by batch
        )
        correct_biases(plain, temporary, inputs_N)
    log.info("%s: 8-bit integers, calibrated on %d images", path.name, len(inputs_N))


def convolutions_of(path: Path) -> list[str]:
    """Return the names of an ONNX graph's convolutions, in the order in which an image passes through them."""
    import onnx

    return [node.name for node in onnx.load(path).graph.node if node.op_type == "Conv"]


def calibration_images(inputs_N: Tensor) -> "CalibrationDataReader":
    """Return inputs, shape (n, …), as ONNX Runtime takes them for calibration: batch by batch."""
    from onnxruntime.quantization import CalibrationDataReader

    batches = [{"x": batch.contiguous().numpy()} for batch in inputs_N.split(CALIBRATION_BATCH)]

    class Images(CalibrationDataReader):
        def __len__(self) -> int:
            return len(batches)

        def set_range(self, start_index: int, end_index: int) -> None:
            self._left = iter(batches[start_index:end_index])

        def get_next(self) -> dict:
            return next(self._left, {})

    return Images()


@functools.cache
def _core() -> "Core":
    """Return this process's only OpenVINO core.

    On processors with AMX, each core gives its thread a stack for signals and takes it away when it is deleted. Of
    several cores that are not deleted in reverse order, a stack without memory is left: the next signal would be a
    segmentation fault and no orderly stop.
    """
    import openvino

    return openvino.Core()


def load_int8(path: Path) -> Callable[[Tensor], Tensor]:
    """Return a function from inputs (n, …) to the layers' outputs (n, …), which are float32 on the CPU."""
    settings = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "INFERENCE_PRECISION_HINT": "f32",  # of what is not in integers; by default bfloat16 where the processor has it
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,  # other processes decode on the same cores
    }
    layers = _core().compile_model(path, "CPU", settings)

    def forward(inputs_N: Tensor) -> Tensor:
        parts = inputs_N.split(batch_size(inputs_N[0], "cpu"))
        return torch.cat([torch.from_numpy(layers([part.contiguous().numpy()])[0].copy()) for part in parts])

    return forward
