"""Layers in 8-bit integers, 1.7 times as fast as bfloat16 on a CPU with instructions for them.

Weights are quantised per channel, activations per tensor, to the range they have on calibration images. ONNX Runtime
builds the graph and runs it (extra `cxr[onnx]`). A sum of integers does not depend on its order, so an image has the
same output in every batch. Whether rounding this coarse is good enough for a model is measured when it is packaged, by
`cxr.export.rounding`.
"""

import importlib.util
import logging
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from cxr.network.acceleration import batch_size, fold_batch_norm
from cxr.network.onnx_graph import write_graph
from cxr.storage import files

log = logging.getLogger(__name__)

ABILITIES = ("avx512_vnni", "avx_vnni", "amx_int8")
"""A processor with one of these adds products of 8-bit integers without overflow; others are slow or wrong."""
CALIBRATION_BATCH = 16


def int8_hindrance(device: str) -> str | None:
    """Return why layers cannot run in 8-bit integers on a device; None if they can."""
    if device != "cpu":
        return f"8-bit integers need a CPU, and the device is {device}"
    abilities = torch.cpu.get_capabilities()
    if not any(abilities.get(name) for name in ABILITIES):
        return f"this processor has none of {', '.join(ABILITIES)}"
    if importlib.util.find_spec("onnxruntime") is None:
        return "onnxruntime is missing: install cxr with the extra [onnx]"
    return None


def quantise(layers: nn.Module, inputs_N: Tensor, path: Path) -> None:
    """Write layers as an ONNX graph that computes in 8-bit integers.

    Args:
        layers: in evaluation mode; changed in place.
        inputs_N: their inputs for the calibration images, shape (n, …).
        path: the file to write.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    batches = ({"x": batch.contiguous().numpy()} for batch in inputs_N.split(CALIBRATION_BATCH))

    class Images(CalibrationDataReader):
        def get_next(self) -> dict:
            return next(batches, {})

    with tempfile.TemporaryDirectory() as scratch, files.replacing(path) as temporary:
        exact = Path(scratch) / "exact.onnx"
        plain = Path(scratch) / "plain.onnx"
        write_graph(fold_batch_norm(layers), inputs_N[:2].contiguous(), exact, inputs="x", outputs="y")
        quant_pre_process(exact, plain, skip_symbolic_shape=True)
        quantize_static(
            plain,
            temporary,
            Images(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    log.info("%s: 8-bit integers, calibrated on %d images", path.name, len(inputs_N))


def load_int8(path: Path) -> Callable[[Tensor], Tensor]:
    """Return a function from inputs (n, …) to the layers' outputs (n, …), which are float32 on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def forward(inputs_N: Tensor) -> Tensor:
        parts = inputs_N.split(batch_size(inputs_N[0], "cpu"))
        return torch.cat([torch.from_numpy(session.run(["y"], {"x": part.contiguous().numpy()})[0]) for part in parts])

    return forward
