"""8-bit integers: against the layers in float32 that they come from."""

import subprocess
import sys
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from cxr.network import int8
from cxr.network.int8 import int8_hindrance, load_int8, quantise
from tests.support.shared import NewFolder

needs_int8 = pytest.mark.skipif(int8_hindrance("cpu") is not None, reason=str(int8_hindrance("cpu")))


def make_layers() -> nn.Sequential:
    """A convolution with batch norm, one that strides, and pooling, as in a ResNet's trunk."""
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(8)
    nn.init.uniform_(norm.weight, 0.5, 2)
    nn.init.uniform_(norm.bias, -1, 1)
    rest = (nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), norm, *rest).eval()


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(40, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def graph(images: Tensor, new_folder: NewFolder) -> Path:
    path = new_folder("graph") / "layers.onnx"
    quantise(make_layers(), images[:33], path, first_in_float=False)
    return path


@needs_int8
def test_the_layers_say_nearly_the_same_in_8_bit_integers(images: Tensor, graph: Path) -> None:
    with torch.inference_mode():
        exact = make_layers()(images)
    coarse = load_int8(graph)(images)
    error = (coarse - exact).norm() / exact.norm()
    assert 1e-4 < error < 0.03
    assert (coarse.dtype, coarse.shape) == (exact.dtype, exact.shape)


@needs_int8
def test_every_convolution_multiplies_integers(graph: Path) -> None:
    nodes = onnx.load(graph).graph.node
    made_by = {name: node for node in nodes for name in node.output}
    convolutions = [node for node in nodes if node.op_type == "Conv"]
    assert len(convolutions) == 2
    for convolution in convolutions:
        assert {made_by[name].op_type for name in convolution.input} == {"DequantizeLinear"}


@needs_int8
def test_the_means_of_a_convolutions_channels_are_those_of_float32(images: Tensor, graph: Path) -> None:
    model = onnx.load(graph)
    output = [node.output[0] for node in model.graph.node if node.op_type == "Conv"][-1]
    model.graph.output.append(onnx.ValueInfoProto(name=output))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = torch.tensor(session.run([output], {"x": images[:33].numpy()})[0])
    with torch.inference_mode():
        expected = make_layers()[:4](images[:33])
    torch.testing.assert_close(found.mean((0, 2, 3)), expected.mean((0, 2, 3)), rtol=0, atol=1e-4)


@needs_int8
def test_an_image_has_the_same_output_in_any_company(images: Tensor, graph: Path) -> None:
    run = load_int8(graph)
    together = run(images)
    for part in (1, 7, 16):
        assert torch.cat([run(some) for some in images.split(part)]).equal(together)


@needs_int8
def test_another_runtime_gives_nearly_the_same(images: Tensor, graph: Path) -> None:
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    expected = torch.tensor(session.run(["y"], {"x": images.numpy()})[0])
    error = (load_int8(graph)(images) - expected).norm() / expected.norm()
    assert error < 0.01


NO_CONNECTIONS = """
import sys
def stop(event, args):
    if event in ("socket.connect", "socket.getaddrinfo"):
        sys.exit(f"{event} {args}")
sys.addaudithook(stop)
import torch
from pathlib import Path
from cxr.network.int8 import load_int8
print(load_int8(Path(sys.argv[1]))(torch.zeros(1, 3, 16, 16)).shape)
"""


@needs_int8
def test_nothing_is_reported_to_anybody(graph: Path) -> None:
    """OpenVINO brings a package that can report how it is used."""
    ended = subprocess.run([sys.executable, "-c", NO_CONNECTIONS, graph], check=True, stdout=subprocess.PIPE, text=True)
    assert ended.stdout == "torch.Size([1, 16])\n"


STOPPED = """
import os, signal, sys
from pathlib import Path
from cxr.network.int8 import load_int8
networks = [load_int8(Path(sys.argv[1])) for _ in range(3)]
while networks:
    networks.pop(0)
signal.signal(signal.SIGTERM, lambda number, _: sys.exit(f"stopped by {number}"))
os.kill(os.getpid(), signal.SIGTERM)
"""


@needs_int8
def test_a_process_that_has_dropped_its_networks_can_still_be_stopped(graph: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", STOPPED, graph], check=False, stderr=subprocess.PIPE, text=True)
    assert (ended.returncode, ended.stderr) == (1, "stopped by 15\n")


def test_a_hindrance_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert int8_hindrance("cuda:0") == "8-bit integers need a CPU, and the device is cuda:0"
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_vnni": True})
    monkeypatch.setattr(int8.importlib.util, "find_spec", lambda name: None)
    assert int8_hindrance("cpu") == "openvino is missing: install cxr with the extra [int8]"
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_vnni": False})
    assert int8_hindrance("cpu") == "this processor has none of avx512_vnni, avx_vnni, amx_int8"
