"""ResNet-50: its pretrained weights, its trainable layers, and the constants that belong to the weights.

The default is `imagenet-v1` and not `imagenet-v2`: v2's recipe (label smoothing, mixup, cutmix, long schedule) gains
top-1 accuracy on ImageNet, but its features transfer worse when the trunk stays frozen (Kornblith et al., Why do better
loss functions lead to less transferable features, NeurIPS 2021).
"""

import copy
import logging
import urllib.error
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from cxr.application import quick_imports
from cxr.errors import WeightsError
from cxr.network.preprocessing import Preprocessing
from cxr.network.views import view_maps
from cxr.recipe import Standardise, TestViews, Trainable
from cxr.storage.files import sha256_of

if TYPE_CHECKING:
    from torchvision.models import ResNet

log = logging.getLogger(__name__)

PUBLISHED = {
    "imagenet-v1": "https://download.pytorch.org/models/resnet50-0676ba61.pth",
    "imagenet-v2": "https://download.pytorch.org/models/resnet50-11ad3fa6.pth",
}
"""torchvision's ResNet50_Weights.IMAGENET1K_V1 and _V2; the end of a file's name is the beginning of its hash."""
PERCENTILES = (2.0, 98.0)
"""Between which grey levels are stretched: collimation, markers and implants lie outside."""
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
RADIMAGENET_MEAN = (0.5, 0.5, 0.5)
RADIMAGENET_STD = (0.5, 0.5, 0.5)
RADIMAGENET_CHILDREN = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
WRAPPERS = ("module.", "model.", "encoder.")
BATCH_SIZE = 64
"""Images that go through a network together outside training."""


@dataclass(frozen=True)
class Pretrained:
    """A trunk's state dict under torchvision's names, its normalisation constants, and the hash of its file."""

    state: dict[str, Tensor]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    sha256: str


def load_pretrained(weights: str) -> Pretrained | None:
    """Return the weights that `--weights` names; None for `none`.

    Args:
        weights: imagenet-v1, imagenet-v2, none, or the path of a .pth, .pt or .safetensors file with a ResNet-50
            state dict, either torchvision's or RadImageNet's, whose keys are `backbone.<child number>.…`.

    Raises:
        WeightsError: the file is missing, unsafe, or not a ResNet-50; or a published file cannot be downloaded.
    """
    if weights == "none":
        return None
    file = locate_weights(weights)
    state = _read_state(file)
    is_radimagenet = any(name.endswith("backbone.0.weight") for name in state)
    mean, std = (RADIMAGENET_MEAN, RADIMAGENET_STD) if is_radimagenet else (IMAGENET_MEAN, IMAGENET_STD)
    sha256 = sha256_of(file)
    if weights in PUBLISHED and not sha256.startswith(file.stem.rsplit("-", 1)[-1]):
        log.warning("%s is not the file published by torchvision: its SHA-256 is %s", file, sha256)
    return Pretrained(_as_trunk(state, file), mean, std, sha256)


def locate_weights(weights: str) -> Path:
    """Return the file with the weights; a published file is downloaded into torch's cache if it is not there."""
    if weights not in PUBLISHED:
        file = Path(weights).expanduser()
        if file.is_file():
            return file
        raise WeightsError(f"--weights {weights!r} is not a file: give one, or imagenet-v1, imagenet-v2 or none.")
    return _download(weights, PUBLISHED[weights])


def _download(weights: str, url: str) -> Path:
    """Return a published file in torch's cache, downloaded unless it is there."""
    file = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]
    if not file.exists():
        log.info("downloading %s to %s", url, file)
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(file), hash_prefix=file.stem.rsplit("-", 1)[-1], progress=False)
        except (OSError, urllib.error.URLError, RuntimeError) as error:
            raise WeightsError(
                f"--weights {weights} needs {file.name}, which is not in torch's cache and cannot be downloaded "
                f"({type(error).__name__}): fetch {url} elsewhere and put it at {file}, or give --weights FILE."
            ) from error
    return file


def _read_state(file: Path) -> Mapping[str, Tensor]:
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        state = torch.load(file, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, RuntimeError, ValueError, EOFError, KeyError) as error:
        raise WeightsError(f"weights file {file} cannot be read: {str(error).splitlines()[0]}") from error
    except Exception as error:  # pickle.UnpicklingError: torch refuses anything but tensors and plain containers
        raise WeightsError(
            f"weights file {file} contains more than tensors, and loading it would run code: "
            "save the state dict alone, preferably as .safetensors."
        ) from error
    state = state.get("state_dict", state) if isinstance(state, Mapping) else state
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"weights file {file} contains no state dict (a mapping of names to tensors).")
    return state


def _as_trunk(state: Mapping[str, Tensor], file: Path) -> dict[str, Tensor]:
    """Return the trunk's tensors under torchvision's names; raise WeightsError if one is missing or misshapen."""
    wanted = _trunk_shapes()
    trunk = _trunk_only({_torchvision_name(name): tensor for name, tensor in state.items()})
    counters = {name: torch.tensor(0) for name in wanted if name.endswith("num_batches_tracked")}
    trunk = counters | trunk  # weights saved before torch 0.4.1 lack the counters
    wrong = sorted(wanted.keys() ^ trunk.keys()) or sorted(n for n in wanted if wanted[n] != trunk[n].shape)
    if wrong:
        raise WeightsError(
            f"weights file {file} is not a ResNet-50: {len(wrong)} tensors differ, such as {wrong[0]!r}."
        )
    return trunk


@cache
def _trunk_shapes() -> dict[str, torch.Size]:
    with torch.device("meta"):
        return {name: tensor.shape for name, tensor in _trunk_only(_resnet50().state_dict()).items()}


def _resnet50(*, zero_init_residual: bool = False) -> "ResNet":
    with quick_imports():  # takes seconds, and a package with compiled graphs does not need it
        from torchvision.models import resnet50

    return resnet50(zero_init_residual=zero_init_residual)


def _trunk_only(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}


def _torchvision_name(name: str) -> str:
    for wrapper in WRAPPERS:
        name = name.removeprefix(wrapper)
    if name.startswith("backbone."):
        child, _, rest = name.removeprefix("backbone.").partition(".")
        return f"{RADIMAGENET_CHILDREN[child]}.{rest}" if child in RADIMAGENET_CHILDREN else f"{child}.{rest}"
    return name


class Classifier(nn.Module):
    """From grey squares to logits: torchvision's ResNet-50 with its preprocessing in front.

    The constants of the preprocessing are buffers, so they are saved with the weights that need them.

    Args:
        n_classes: number of logits.
        pretrained: where the trunk starts; None for random weights.
        standardise: whether grey levels are stretched; weights that are loaded say so themselves.
        test_views: what logits are averaged over; weights that are loaded say so themselves.
        zero_init_residual: whether each residual block starts as the identity, its last batch normalisation at zero
            (Goyal et al. 2017, arXiv:1706.02677, section 5.1); weights that are loaded take its place.
    """

    mean: Tensor
    std: Tensor
    percentiles: Tensor | None
    view_maps: Tensor | None

    def __init__(
        self,
        n_classes: int,
        pretrained: Pretrained | None = None,
        standardise: Standardise = "none",
        test_views: TestViews = "none",
        *,
        zero_init_residual: bool = False,
    ) -> None:
        super().__init__()
        self.network = _resnet50(zero_init_residual=zero_init_residual)
        if pretrained is not None:
            self.network.load_state_dict(pretrained.state, strict=False)
        self.network.fc = nn.Linear(self.network.fc.in_features, n_classes)
        self.register_buffer("mean", torch.tensor(pretrained.mean if pretrained else IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(pretrained.std if pretrained else IMAGENET_STD).view(1, 3, 1, 1))
        self.register_buffer("percentiles", torch.tensor(PERCENTILES) if standardise == "percentile" else None)
        self.register_buffer("view_maps", view_maps(test_views))

    @staticmethod
    def from_weights(n_classes: int, state: Mapping[str, Tensor]) -> "Classifier":
        """Return the network with these weights, which it keeps and does not copy.

        Raises:
            RuntimeError: they are of another network.
        """
        model = copy.deepcopy(_without_weights(n_classes))
        model.percentiles = state.get("percentiles")
        model.view_maps = state.get("view_maps")
        model.load_state_dict(state, assign=True)
        return model

    @property
    def preprocessing(self) -> Preprocessing:
        """From squares to the network's input."""
        return Preprocessing(self.mean, self.std, self.percentiles, self.view_maps)

    def forward(self, grey_B1HW: Tensor) -> Tensor:
        """Return logits, shape (B, n_classes), for grey values as `preprocessing` makes them, shape (B, 1, H, W)."""
        return self.network(self.preprocessing.normalise(grey_B1HW))

    def stages(self, trainable: Trainable) -> tuple[nn.Sequential, nn.Sequential]:
        """Return the frozen and the trained layers, in this order the whole network; the modules are its own."""
        trunk = [module for name, module in self.network.named_children() if name != "fc"]
        order = [*trunk, nn.Flatten(), self.network.fc]
        first = {"head": self.network.fc, "layer4": self.network.layer4, "all": order[0]}[trainable]
        start = next(index for index, module in enumerate(order) if module is first)
        return nn.Sequential(*order[:start]), nn.Sequential(*order[start:])

    def trained_parts(self, trainable: Trainable) -> dict[str, list[nn.Module]]:
        """Return the modules that are trained: the new `head`, and the pretrained ones of the `trunk`."""
        trunk = [module for name, module in self.network.named_children() if name != "fc"]
        pretrained = {"head": [], "layer4": [self.network.layer4], "all": trunk}[trainable]
        return {"head": [self.network.fc], "trunk": pretrained}


@cache
def _without_weights(n_classes: int) -> Classifier:
    """Return a network on the meta device, to be copied: making one takes three times as long."""
    with torch.device("meta"):
        return Classifier(n_classes)


@torch.inference_mode()
def predict_logits(model: Classifier, squares: NDArray[np.uint8], device: str) -> NDArray[np.float64]:
    """Return the logits of images, shape (n, n_classes), averaged over their views.

    Args:
        model: put in evaluation mode.
        squares: shape (n, size, size).
        device: where the model is.
    """
    # GPUs compute float32 convolutions in TF32 by default
    torch.backends.cudnn.allow_tf32 = False
    model.eval()
    preprocessing = model.preprocessing
    logits: list[Tensor] = []
    for batch in torch.from_numpy(squares).split(max(1, BATCH_SIZE // preprocessing.n_views)):
        views = preprocessing.views(preprocessing.grey(batch.to(device)))
        logits.append(preprocessing.mean_over_views(model(views)).cpu())
    return torch.cat(logits).double().numpy()
