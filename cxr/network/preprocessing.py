"""From grey squares to a network's input; the constants are stored with the weights that need them.

Grey levels are divided by 255, or, for a network that was trained so, stretched between two percentiles of the image.
Radiographs are grey and the pretrained first layer has three input channels, so the grey square is repeated, and each
channel is normalised with the mean and standard deviation that the weights were trained with. Where a network predicts,
it may see each image in several views, over which its outputs are averaged.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from cxr.network.views import seen_through

LEVELS = 256


@dataclass(frozen=True)
class Preprocessing:
    """The constants of one network, all on its device.

    Attributes:
        mean: shape (1, 3, 1, 1).
        std: shape (1, 3, 1, 1).
        percentiles: the lower and the upper one that grey levels are stretched between, shape (2,); None to leave them.
        view_maps: the views of an image beside itself, as `cxr.network.views` makes them; None for the image alone.
    """

    mean: Tensor
    std: Tensor
    percentiles: Tensor | None = None
    view_maps: Tensor | None = None

    def to(self, device: str) -> "Preprocessing":
        """Return the same constants on a device."""
        percentiles, view_maps = (None if t is None else t.to(device) for t in (self.percentiles, self.view_maps))
        return Preprocessing(self.mean.to(device), self.std.to(device), percentiles, view_maps)

    @property
    def n_views(self) -> int:
        """How many views of an image a network predicts from, the image itself among them."""
        return 1 if self.view_maps is None else 1 + len(self.view_maps)

    def inputs(self, squares_BHW: Tensor) -> Tensor:
        """Return a network's input where it predicts, shape (V · B, 3, H, W), for uint8 squares in every view."""
        return self.normalise(self.views(self.grey(squares_BHW)))

    def views(self, grey_B1HW: Tensor) -> Tensor:
        """Return grey values in every view, shape (V · B, 1, H, W): all images as they are, then all in another."""
        if self.view_maps is None:
            return grey_B1HW
        return torch.cat([grey_B1HW, *(seen_through(grey_B1HW, map_23) for map_23 in self.view_maps)])

    def mean_over_views(self, outputs_N: Tensor) -> Tensor:
        """Return the mean over each image's views, shape (B, …), of outputs for all of them, shape (V · B, …)."""
        if self.view_maps is None:
            return outputs_N
        return outputs_N.unflatten(0, (self.n_views, -1)).mean(dim=0)

    def levels(self, squares_BHW: Tensor) -> Tensor | None:
        """Return the two grey levels that each uint8 square is stretched between, shape (2, B); None to leave them."""
        return None if self.percentiles is None else percentile_levels(squares_BHW, self.percentiles)

    def grey(self, squares_BHW: Tensor) -> Tensor:
        """Return uint8 squares as grey values in [0, 1], shape (B, 1, H, W), in channels-last layout."""
        return self.stretch(squares_BHW, self.levels(squares_BHW))

    @staticmethod
    def stretch(squares_BHW: Tensor, levels_2B: Tensor | None) -> Tensor:
        """Return what `grey` returns, for squares whose levels are known."""
        grey_B1HW = squares_BHW.unsqueeze(1).float()
        if levels_2B is None:
            grey_B1HW = grey_B1HW.div(LEVELS - 1)
        else:
            low, high = levels_2B.view(2, -1, 1, 1, 1)
            grey_B1HW = ((grey_B1HW - low) / (high - low).clamp(min=1)).clamp(0, 1)
        return grey_B1HW.contiguous(memory_format=torch.channels_last)

    def normalise(self, grey_B1HW: Tensor) -> Tensor:
        """Return a network's input, shape (B, 3, H, W), for grey values in [0, 1]."""
        return (grey_B1HW - self.mean) / self.std


def percentile_levels(squares_BHW: Tensor, percentiles_P: Tensor) -> Tensor:
    """Return the grey level at each percentile of each image, by nearest rank, as float32 of shape (P, B).

    It is the least level that at least so many percent of the pixels do not exceed. Levels are whole numbers, so every
    device, and the exported graph, finds the same.
    """
    flat_BN = squares_BHW.flatten(1)
    n_pixels = flat_BN.shape[1]
    rank_P = (percentiles_P / 100 * n_pixels).ceil().long().clamp(1, n_pixels)
    if torch.compiler.is_exporting():  # ONNX counts no levels; sorting takes longer and gives the same
        return flat_BN.float().sort(dim=1).values[:, rank_P - 1].T
    n_images = len(flat_BN)
    first_B1 = LEVELS * torch.arange(n_images, device=flat_BN.device).unsqueeze(1)
    counts = torch.bincount((flat_BN + first_B1).flatten(), minlength=LEVELS * n_images).view(n_images, LEVELS)
    return torch.searchsorted(counts.cumsum(1), rank_P.repeat(n_images, 1)).T.float()
