from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from benchmarks.int8_ways import Quantiser
from cxr.network.int8 import int8_hindrance

needs_int8 = pytest.mark.skipif(int8_hindrance("cpu") is not None, reason=str(int8_hindrance("cpu")))


def write_convolutions(path: Path) -> None:
    """Write three convolutions of one pixel; the middle one adds 1,000 to a channel, and the last takes it off again.

    So the range of what lies between them is a thousand times that of the image.
    """
    draw = np.random.default_rng(0).uniform
    constants = {f"weight {k}": draw(0, 1, (4, 4, 1, 1)) for k in range(3)} | {
        f"bias {k}": np.zeros(4) for k in range(3)
    }
    constants["bias 1"][0] = 1000.0
    constants["bias 2"] -= 1000.0 * constants["weight 2"][:, 0, 0, 0]
    nodes = [
        helper.make_node("Conv", [inputs, f"weight {k}", f"bias {k}"], [outputs], name=f"convolution {k}")
        for k, (inputs, outputs) in enumerate((("x", "a"), ("a", "b"), ("b", "y")))
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4, 2, 2]) for name in ("x", "y")]
    initial = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "three", ends[:1], ends[1:], initial)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)


@needs_int8
def test_the_convolution_whose_input_is_rounded_most_is_the_most_sensitive(tmp_path: Path) -> None:
    images = torch.rand(256, 4, 2, 2, generator=torch.Generator().manual_seed(1))
    write_convolutions(tmp_path / "plain.onnx")
    head = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    quantiser = Quantiser(tmp_path / "plain.onnx", head, lambda n: images[:n], tmp_path)
    moved = quantiser.moved_by_each
    assert quantiser.by_sensitivity()[2] == "convolution 0"
    assert 20 * moved["convolution 0"] < min(moved["convolution 1"], moved["convolution 2"])
