import socket
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from cxr.errors import WeightsError
from cxr.network.resnet import IMAGENET_MEAN, IMAGENET_STD, RADIMAGENET_MEAN, Classifier, load_pretrained


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    """A ResNet-50 state dict made on the spot, as torchvision saves it."""
    torch.manual_seed(0)
    return torchvision.models.resnet50().state_dict()


@pytest.fixture
def torch_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    return tmp_path / "hub" / "checkpoints"


def test_imagenet_weights_placed_by_hand_in_torchs_cache_are_used(state, torch_cache: Path) -> None:
    torch_cache.mkdir(parents=True)
    torch.save(state, torch_cache / "resnet50-0676ba61.pth")
    pretrained = load_pretrained("imagenet-v1")
    assert pretrained is not None
    model = Classifier(3, pretrained)
    torch.testing.assert_close(model.network.layer4[2].conv3.weight, state["layer4.2.conv3.weight"])
    assert model.network.fc.out_features == 3
    assert len(pretrained.sha256) == 64


@pytest.mark.parametrize(
    ("weights", "name"), [("imagenet-v1", "resnet50-0676ba61.pth"), ("imagenet-v2", "resnet50-11ad3fa6.pth")]
)
def test_missing_weights_offline_say_which_file_to_put_where(
    torch_cache: Path, monkeypatch: pytest.MonkeyPatch, weights: str, name: str
) -> None:
    def offline(*args: object, **kwargs: object) -> None:
        raise OSError("no network in this test")

    monkeypatch.setattr(socket, "create_connection", offline)
    with pytest.raises(WeightsError, match=rf"fetch https://.*/{name} elsewhere and put it at {torch_cache / name}"):
        load_pretrained(weights)
    assert not (torch_cache / name).exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("prefix", ["", "module.", "encoder."])
def test_a_state_dict_file_is_read_under_common_prefixes(state, tmp_path: Path, suffix: str, prefix: str) -> None:
    file = tmp_path / f"weights{suffix}"
    renamed = {prefix + name: tensor for name, tensor in state.items()}
    torch.save({"state_dict": renamed}, file) if suffix == ".pth" else save_file(renamed, file)
    pretrained = load_pretrained(str(file))
    assert pretrained is not None
    assert pretrained.mean == IMAGENET_MEAN
    torch.testing.assert_close(pretrained.state["conv1.weight"], state["conv1.weight"])


def test_radimagenet_is_known_by_its_keys_and_brings_its_constants(state, tmp_path: Path) -> None:
    backbone = torch.nn.Sequential(*list(torchvision.models.resnet50().children())[:9])
    file = tmp_path / "ResNet50.pt"
    torch.save({f"backbone.{name}": tensor for name, tensor in backbone.state_dict().items()}, file)
    pretrained = load_pretrained(str(file))
    assert pretrained is not None
    assert pretrained.mean == RADIMAGENET_MEAN
    torch.testing.assert_close(pretrained.state["layer1.0.conv1.weight"], backbone.state_dict()["4.0.conv1.weight"])


class Malicious:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("code in a weights file was run",)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"evil": Malicious()}, "contains more than tensors"),
        ([1, 2], "contains no state dict"),
        ({"conv1.weight": torch.zeros(1)}, r"is not a ResNet-50: 264 tensors differ"),
    ],
)
def test_a_file_that_is_not_a_resnet50_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: object, sentence: str
) -> None:
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match=sentence):
        load_pretrained(str(tmp_path / "weights.pth"))
    assert capsys.readouterr().out == ""


def test_a_resnet_of_another_depth_is_refused(tmp_path: Path) -> None:
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match="is not a ResNet-50"):
        load_pretrained(str(tmp_path / "weights.pth"))


def test_a_missing_weights_file_is_named() -> None:
    with pytest.raises(WeightsError, match=r"--weights 'nowhere.pth' is not a file"):
        load_pretrained("nowhere.pth")


def test_grey_images_reach_the_network_as_three_normalised_channels(state) -> None:
    torch.manual_seed(0)
    model = Classifier(2).eval()
    squares = torch.randint(0, 256, (2, 32, 32), dtype=torch.uint8)
    rgb = squares.unsqueeze(1).expand(-1, 3, -1, -1).float() / 255
    expected = model.network(torchvision.transforms.functional.normalize(rgb, list(IMAGENET_MEAN), list(IMAGENET_STD)))
    torch.testing.assert_close(model(model.preprocessing.grey(squares)), expected, rtol=1e-4, atol=1e-4)


def test_a_residual_block_that_starts_as_the_identity_passes_its_input_on_and_all_else_starts_alike() -> None:
    torch.manual_seed(0)
    plain = Classifier(2)
    torch.manual_seed(0)
    model = Classifier(2, zero_init_residual=True)
    features = torch.rand(1, 256, 8, 8)  # as after a rectifier, which the block ends with
    torch.testing.assert_close(model.network.layer1[1].eval()(features), features)
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, plain.state_dict()[name])}
    assert len(changed) == 16
    assert all(name.endswith("bn3.weight") for name in changed)
