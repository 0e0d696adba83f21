from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_static
from torch import Tensor

from cxr.network.bias_correction import correct_biases
from cxr.network.int8 import calibration_images, int8_hindrance

needs_int8 = pytest.mark.skipif(int8_hindrance("cpu") is not None, reason=str(int8_hindrance("cpu")))


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(32, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def write_two_convolutions(path: Path, moved_by: float) -> None:
    """Write a graph of two convolutions, in float32; every output of the first is moved."""
    draw = np.random.default_rng(0).normal
    constants = {
        "weight 1": draw(size=(8, 3, 3, 3)),
        "bias 1": draw(size=8) + moved_by,
        "weight 2": draw(size=(4, 8, 1, 1)),
        "bias 2": draw(size=4),
    }
    nodes = [
        helper.make_node("Conv", ["x", "weight 1", "bias 1"], ["h"], name="first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["h"], ["r"], name="relu"),
        helper.make_node("Conv", ["r", "weight 2", "bias 2"], ["y"], name="second"),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size, 8, 8]) for name, size in ENDS.items()]
    initial = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "two", ends[:1], ends[1:], initial)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)


ENDS = {"x": 3, "y": 4}


def channel_means(path: Path, images: Tensor) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (outputs,) = session.run(["y"], {"x": images.numpy()})
    return np.asarray(outputs).mean(axis=(0, 2, 3))


@needs_int8
def test_means_that_were_moved_are_those_of_float32_again(images: Tensor, tmp_path: Path) -> None:
    exact, moved, integers = (tmp_path / f"{name}.onnx" for name in ("exact", "moved", "integers"))
    write_two_convolutions(exact, moved_by=0.0)
    write_two_convolutions(moved, moved_by=0.3)
    quantize_static(
        moved,
        integers,
        calibration_images(images),
        per_channel=True,
        activation_type=QuantType.QUInt8,
        extra_options={"CalibStridedMinMax": 1},
    )
    expected = channel_means(exact, images)
    before = np.abs(channel_means(integers, images) - expected)
    correct_biases(exact, integers, images)
    after = np.abs(channel_means(integers, images) - expected)
    assert before.min() > 0.05
    assert after.max() < 0.01
