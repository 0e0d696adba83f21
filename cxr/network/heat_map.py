"""Where a network looked: a map of which places of an image raise the log odds of a class.

The map is a layer's output times its gradient, summed over channels; negative values are set to 0 (HiResCAM). The
gradient is that of the class's log odds against the other classes. For two classes these are the difference of the two
logits, on which alone the probability depends; a single logit can rise while the probability does not. The log odds of
one of several findings are its logit. The last group of layers is followed by an average over positions and a linear
layer alone, so there the gradient is the same at all positions, and the map is Grad-CAM. Images too small for a fine
map of it are explained by the group before. A map shows where the network looked, not why, and not that there is a
finding.

Source: Selvaraju et al., Grad-CAM, ICCV 2017; Draelos & Carin, HiResCAM, 2020 (arXiv:2011.08891); Adebayo et al.,
Sanity checks for saliency maps, NeurIPS 2018.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from cxr.classes import Link
from cxr.network.resnet import BATCH_SIZE, Classifier

N_CELLS = 7
"""Cells a side from which on the map is of the last group of layers: those that Grad-CAM had where it was published."""
STRIDES = {"layer4": 32, "layer3": 16}
"""Pixels that are between two cells of a map, by group of layers."""


@dataclass(frozen=True)
class MapMethod:
    """How the maps of a network are made."""

    layer: str
    """The group of layers that they are of."""
    n_cells: int
    """Cells a side, before they are stretched to the image."""

    @property
    def name(self) -> str:
        """The name that the method was published under."""
        return "Grad-CAM" if self.layer == "layer4" else "HiResCAM"

    def __str__(self) -> str:
        return f"{self.name} ({self.layer}, {self.n_cells} × {self.n_cells} cells)"


def map_method(size_px: int) -> MapMethod:
    """Return how maps are made by networks whose images have `size_px` pixels a side."""
    cells = {layer: -(-size_px // stride) for layer, stride in STRIDES.items()}
    layer = "layer4" if cells["layer4"] >= N_CELLS else "layer3"
    return MapMethod(layer, cells[layer])


def heat_maps(
    models: Sequence[Classifier], squares: NDArray[np.uint8], target: NDArray[np.int64], link: Link = "softmax"
) -> NDArray[np.float32]:
    """Return where networks see a class or finding, shape (n, size, size), 0 to 1; all 0 where they see it nowhere.

    The maps of several networks (the folds of an ensemble) are summed before they are scaled, so a network that sees
    nothing counts less than one that is certain.

    Args:
        models: networks on one device; they are put in evaluation mode.
        squares: shape (n, size, size).
        target: index of the class or finding to look for in each image, shape (n,).
        link: softmax for classes, sigmoid for findings.
    """
    batches = zip(torch.from_numpy(squares).split(BATCH_SIZE), torch.from_numpy(target).split(BATCH_SIZE), strict=True)
    maps = [sum(_raw_map(model, images, classes, link) for model in models) for images, classes in batches]
    raw_N = torch.cat([torch.as_tensor(part) for part in maps])
    top = raw_N.amax(dim=(1, 2), keepdim=True)
    return torch.where(top > 0, raw_N / top.clamp_min(torch.finfo(torch.float32).tiny), 0).numpy()


def _raw_map(model: Classifier, squares: Tensor, target: Tensor, link: Link) -> Tensor:
    """Return one network's maps before scaling, shape (n, size, size), on the CPU."""
    from captum.attr import LayerGradientXActivation

    def log_odds(grey_B1HW: Tensor, target_B: Tensor) -> Tensor:
        logits = model(grey_B1HW)
        is_target = F.one_hot(target_B, logits.shape[1]).bool()
        if link == "sigmoid":
            return logits[is_target]
        return logits[is_target] - logits.masked_fill(is_target, -torch.inf).logsumexp(1)

    size = squares.shape[1:]
    device = model.mean.device
    method = LayerGradientXActivation(log_odds, getattr(model.eval().network, map_method(size[0]).layer))
    inputs = model.preprocessing.grey(squares.to(device))
    product_BChw = method.attribute(inputs, additional_forward_args=target.to(device))
    assert isinstance(product_BChw, Tensor)  # noqa: S101 one layer, one tensor
    map_B1hw = F.relu(product_BChw.detach().sum(1, keepdim=True))
    return F.interpolate(map_B1hw, size=size, mode="bilinear", align_corners=False).squeeze(1).float().cpu()


def overlay(grey: NDArray[np.uint8], heat: NDArray[np.float32], *, opacity: float = 0.5) -> Image.Image:
    """Return an image in its own proportions with a map on top; where the map is 0, the image is unchanged.

    Args:
        grey: the image, shape (height, width).
        heat: the map, shape (size, size), 0 to 1; it is stretched to the image.
        opacity: of the map where it is 1.
    """
    from matplotlib import colormaps

    picture = Image.fromarray(grey)
    stretched = Image.fromarray(heat.astype(np.float32)).resize(picture.size, Image.Resampling.BILINEAR)
    value = np.clip(np.asarray(stretched), 0, 1)[..., None]
    colour = colormaps["inferno"](value[..., 0])[..., :3] * 255
    share = value * opacity
    return Image.fromarray((np.asarray(picture)[..., None] * (1 - share) + colour * share).round().astype(np.uint8))


def beside(grey: NDArray[np.uint8], laid_over: Image.Image) -> Image.Image:
    """Return an image and, to its right, the image with its map.

    Args:
        grey: the image, shape (height, width).
        laid_over: the image with its map, of the same size.
    """
    both = Image.new("RGB", (2 * laid_over.width, laid_over.height))
    both.paste(Image.fromarray(grey), (0, 0))
    both.paste(laid_over, (laid_over.width, 0))
    return both
