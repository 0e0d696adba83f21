import copy
from pathlib import Path

import pytest
import torch
import torchvision

from cxr import forward, store
from cxr.errors import DeviceError
from cxr.forward import accelerate, fold_batch_norm


@pytest.fixture(scope="module")
def layers() -> torch.nn.Sequential:
    """A ResNet-50 up to layer2, whose batch norms have seen something."""
    torch.manual_seed(0)
    network = torchvision.models.resnet50()
    network.train()
    with torch.no_grad():
        for _ in range(3):
            network(torch.rand(4, 3, 64, 64))
    return torch.nn.Sequential(*list(network.children())[:6]).eval()


IMAGES = torch.rand(19, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def run(layers: torch.nn.Sequential, cache: Path, **options) -> torch.Tensor:
    usual = {"bf16": False, "n_films": 19, "size": 64, "compile": "off", "cache": cache}
    return accelerate(layers, "cpu", **(usual | options))(IMAGES)


def test_folding_leaves_no_batch_norm_and_changes_nothing_but_rounding(layers: torch.nn.Sequential) -> None:
    folded = fold_batch_norm(copy.deepcopy(layers))
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules())
    with torch.no_grad():
        torch.testing.assert_close(folded(IMAGES), layers(IMAGES), atol=1e-4, rtol=1e-4)


def test_the_fast_forward_gives_what_the_layers_give_for_any_number_of_films(
    layers: torch.nn.Sequential, tmp_path: Path
) -> None:
    with torch.no_grad():
        expected = layers(IMAGES)
    torch.testing.assert_close(run(layers, tmp_path), expected, atol=1e-4, rtol=1e-4)
    close = run(layers, tmp_path, bf16=True)
    assert close.dtype == torch.float32
    assert (close - expected).abs().max() < 0.05 * expected.abs().max()


def test_compiled_layers_give_the_same_and_leave_a_mark(layers: torch.nn.Sequential, tmp_path: Path) -> None:
    with torch.no_grad():
        expected = layers(IMAGES)
    torch.testing.assert_close(run(layers, tmp_path, compile="on"), expected, atol=1e-4, rtol=1e-4)
    (mark,) = (tmp_path / "compiled").glob("made-*.json")
    assert store.read_json(mark)["seconds"] > 0


@pytest.mark.parametrize(
    ("n_films", "warm", "expected"), [(3999, False, False), (4000, False, True), (999, True, False), (1000, True, True)]
)
def test_auto_compiles_where_it_repays(n_films: int, warm: bool, expected: bool) -> None:
    assert forward._is_to_be_compiled("auto", "cpu", n_films, warm) == expected
    assert not forward._is_to_be_compiled("off", "cpu", n_films, warm)


def test_without_a_compiler_auto_goes_on_and_on_says_what_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert not forward._is_to_be_compiled("auto", "cpu", 10**6, False)
    with pytest.raises(DeviceError, match=r"--compile on needs a C\+\+ compiler \(on Debian: apt install g\+\+\)"):
        forward._is_to_be_compiled("on", "cpu", 10, False)
