from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from cxr.errors import ConfigError
from cxr.network import onnx_graph
from cxr.network.onnx_graph import require_onnx, write_graph
from tests.support.shared import NewFolder


@pytest.fixture(scope="module")
def layers() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()


@pytest.fixture(scope="module")
def graph(layers: nn.Module, new_folder: NewFolder) -> Path:
    path = new_folder("graph") / "layers.onnx"
    write_graph(layers, torch.zeros(2, 3, 8, 8), path, inputs="squares", outputs="features")
    return path


@pytest.mark.parametrize("n_images", [1, 2, 5])
def test_the_graph_computes_what_the_layers_compute_for_any_number_of_images(
    layers: nn.Module, graph: Path, n_images: int
) -> None:
    images = torch.rand(n_images, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    (features,) = session.run(["features"], {"squares": images.numpy()})
    with torch.inference_mode():
        torch.testing.assert_close(torch.from_numpy(features), layers(images))


def test_the_weights_are_inside_the_one_file(graph: Path) -> None:
    assert list(graph.parent.iterdir()) == [graph]
    model = onnx.load(graph, load_external_data=False)
    assert model.graph.initializer
    assert all(tensor.data_location == onnx.TensorProto.DEFAULT for tensor in model.graph.initializer)


def test_the_file_names_no_path_of_the_machine_that_wrote_it(graph: Path) -> None:
    data = graph.read_bytes()
    assert b".py" not in data
    assert str(Path(torch.__file__).parents[1]).encode() not in data


@pytest.mark.parametrize("option", ["--onnx", "--int8"])
def test_missing_packages_are_reported_with_the_option_that_needs_them(
    monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    require_onnx(option)
    monkeypatch.setattr(onnx_graph.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=rf"{option} needs onnx and onnxscript: install cxr with the extra \[onnx\]"):
        require_onnx(option)
