"""The biases of a graph in 8-bit integers, corrected: its rounding then moves no convolution's mean output.

Needs onnx and onnxruntime, so import it where a graph is quantised.

Source: Nagel et al., Data-free quantization through weight equalization and bias correction, ICCV 2019, the empirical
way (their appendix D).
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper
from torch import Tensor

N_AVERAGED = 64
"""Images that means are taken over, at most, in one batch; at 224 px, a layer's output for them has up to 0.2 GB."""
INT32 = np.iinfo(np.int32).min, np.iinfo(np.int32).max
Channels = dict[str, NDArray[np.float32]]
"""A value for each output channel, by the name of the convolution, each of shape (1, channels, 1, 1)."""


def correct_biases(exact: Path, integers: Path, inputs_N: Tensor) -> None:
    """Shift the bias of each convolution in integers until each channel's mean is that in float32, to its rounding.

    All images pass together, and each convolution's output is corrected before the next convolutions see it, as the
    biases before a convolution move its mean too.

    Args:
        exact: an ONNX graph in float32.
        integers: the same graph in 8-bit integers; it is replaced.
        inputs_N: for calibration images, shape (n, …); the means are taken over 64 of them, evenly spread.
    """
    graph = onnx.load(integers)
    images = inputs_N[:: math.ceil(len(inputs_N) / N_AVERAGED)]
    shifts = _shifts(onnx.load(integers), _means(onnx.load(exact), images), images)
    made_by = {output: node for node in graph.graph.node for output in node.output}
    constants = {constant.name: constant for constant in graph.graph.initializer}
    for node in _in_integers(graph):
        bias, step = (constants[name] for name in made_by[node.input[2]].input[:2])
        corrected = numpy_helper.to_array(bias) + shifts[node.name].ravel() / numpy_helper.to_array(step)
        bias.CopyFrom(numpy_helper.from_array(corrected.round().clip(*INT32).astype(np.int32), bias.name))
    onnx.save(graph, integers)


def _means(graph: ModelProto, inputs_N: Tensor) -> Channels:
    """Return the mean of each channel of each convolution's output, over images and pixels."""
    found = [node for node in graph.graph.node if node.op_type == "Conv"]
    means = {node.name: [_mean(node.output[0], node.name)] for node in found}
    return _run(graph, means, inputs_N)


def _shifts(graph: ModelProto, expected: Channels, inputs_N: Tensor) -> Channels:
    """Return what is missing from each mean of a convolution in integers, where all before it are corrected."""
    added = {}
    for node in _in_integers(graph):
        corrected, raw, mean, wanted = node.output[0], *(f"{node.name} {what}" for what in ("raw", "mean", "wanted"))
        node.output[0] = raw
        graph.graph.initializer.append(numpy_helper.from_array(expected[node.name], wanted))
        added[node.name] = [
            _mean(raw, mean),
            helper.make_node("Sub", [wanted, mean], [node.name]),
            helper.make_node("Add", [raw, node.name], [corrected]),
        ]
    return _run(graph, added, inputs_N)


def _in_integers(graph: ModelProto) -> Iterator[NodeProto]:
    """Yield the convolutions in integers, in the order in which an image passes through them.

    One whose biases were all 0 has none in the graph, and is left as it is.
    """
    made = {output for node in graph.graph.node for output in node.output}
    for node in graph.graph.node:
        if node.op_type == "Conv" and len(node.input) == 3 and node.input[2] in made:
            yield node


def _mean(values: str, mean: str) -> NodeProto:
    return helper.make_node("ReduceMean", [values, "over images and pixels"], [mean], keepdims=1)


def _run(graph: ModelProto, added: Mapping[str, Iterable[NodeProto]], inputs_N: Tensor) -> Channels:
    """Return the value under the name of each convolution after which nodes are added."""
    if not added:  # onnxruntime takes an empty list for all outputs
        return {}
    nodes = [each for node in graph.graph.node for each in (node, *added.get(node.name, ()))]
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)
    graph.graph.initializer.append(numpy_helper.from_array(np.array([0, 2, 3]), "over images and pixels"))
    graph.graph.output.extend(onnx.ValueInfoProto(name=name) for name in added)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # each node as it stands
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    values = session.run(list(added), {"x": inputs_N.contiguous().numpy()})
    return dict(zip(added, map(np.asarray, values), strict=True))
