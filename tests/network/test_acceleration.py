import copy
from pathlib import Path

import pytest
import torch
import torchvision

from cxr.errors import DeviceError
from cxr.network import acceleration
from cxr.network.acceleration import accelerate, fold_batch_norm
from cxr.storage.cache_folder import CacheFolder


@pytest.fixture(scope="module")
def layers() -> torch.nn.Sequential:
    """A ResNet-50 up to layer2, with non-trivial batch statistics."""
    torch.manual_seed(0)
    network = torchvision.models.resnet50()
    network.train()
    with torch.no_grad():
        for _ in range(3):
            network(torch.rand(4, 3, 64, 64))
    return torch.nn.Sequential(*list(network.children())[:6]).eval()


IMAGES = torch.rand(19, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def run(layers: torch.nn.Sequential, cache: Path, images: torch.Tensor = IMAGES, **options) -> torch.Tensor:
    usual = {"bf16": False, "n_images": 19, "compile": "off", "cache": cache}
    return accelerate(lambda: copy.deepcopy(layers), "layers", "cpu", **(usual | options))(images)


def test_folding_leaves_no_batch_norm_and_changes_nothing_but_rounding(layers: torch.nn.Sequential) -> None:
    folded = fold_batch_norm(copy.deepcopy(layers))
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules())
    with torch.no_grad():
        torch.testing.assert_close(folded(IMAGES), layers(IMAGES), atol=1e-4, rtol=1e-4)


def test_the_fast_forward_gives_what_the_layers_give_for_any_number_of_images(
    layers: torch.nn.Sequential, tmp_path: Path
) -> None:
    with torch.no_grad():
        expected = layers(IMAGES)
    torch.testing.assert_close(run(layers, tmp_path), expected, atol=1e-4, rtol=1e-4)
    close = run(layers, tmp_path, bf16=True)
    assert close.dtype == torch.float32
    assert (close - expected).abs().max() < 0.05 * expected.abs().max()


def test_a_compiled_graph_gives_the_same_and_is_made_once(layers: torch.nn.Sequential, tmp_path: Path) -> None:
    layers = layers[:4]  # fewer layers compile faster
    with torch.no_grad():
        expected = layers(IMAGES)
    torch.testing.assert_close(run(layers, tmp_path, compile="on"), expected, atol=1e-4, rtol=1e-4)
    (graph,) = (tmp_path / "compiled").glob("*.pt2")
    made_at = graph.stat().st_mtime_ns

    def never() -> torch.nn.Module:
        raise AssertionError("the cached graph contains the weights")

    again = accelerate(never, "layers", "cpu", bf16=False, n_images=1, compile="auto", cache=tmp_path)
    torch.testing.assert_close(again(IMAGES[:1]), expected[:1], atol=1e-4, rtol=1e-4)
    assert graph.stat().st_mtime_ns == made_at
    graph.write_bytes(b"damaged")
    torch.testing.assert_close(run(layers, tmp_path, compile="on"), expected, atol=1e-4, rtol=1e-4)
    assert graph.stat().st_size > 1000


def test_auto_compiles_once_enough_images_went_through_to_repay_it(tmp_path: Path) -> None:
    graph = acceleration._Graph(CacheFolder(tmp_path), "kind")
    assert not graph.repays(1500)
    assert not graph.repays(2000)
    assert graph.repays(500)
    graph.file.touch()
    assert acceleration._Graph(CacheFolder(tmp_path), "kind").repays(1)


def test_without_a_compiler_auto_goes_on_and_on_says_what_is_needed(
    layers: torch.nn.Sequential, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    run(layers, tmp_path, images=IMAGES[:1], compile="auto", n_images=10**6)
    with pytest.raises(
        DeviceError, match=r"--compile on needs a C\+\+ compiler, and there is none \(on Debian: apt install g\+\+\)"
    ):
        run(layers, tmp_path, compile="on")
