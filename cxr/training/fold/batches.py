"""Training batches of grey squares or of features, kept on the device if they fit."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from cxr.network.augmentation import augment
from cxr.network.preprocessing import Preprocessing
from cxr.storage.image_arrays import ImageArrays
from cxr.training import features
from cxr.training.run import Run

RESIDENT_BYTES = 2**30
"""Features up to this size are kept in memory, or on the device; larger ones are read batch by batch."""

LEVELS_AT_A_TIME = 256
"""Images whose grey levels are counted together."""


def open_batches(
    run: Run, images: pd.DataFrame, preprocessing: Preprocessing, device: str
) -> "tuple[SquareBatches | FeatureBatches, list[ImageArrays]]":
    """Return the batches of a fold's training images, and the store of each view's features.

    There are no views, and the batches are of squares, if no layer is frozen.
    """
    views = features.extract(run, device)
    if views:
        return FeatureBatches(images, views[: run.config.views], device), views
    return SquareBatches(run, images, preprocessing, device), views


class SquareBatches:
    """Grey squares, augmented on the device, and kept there if they take at most half of its free memory."""

    def __init__(self, run: Run, images: pd.DataFrame, preprocessing: Preprocessing, device: str) -> None:
        squares = torch.from_numpy(run.squares(images))
        fits = device == "cpu" or squares.nbytes <= torch.cuda.mem_get_info(device)[0] / 2
        self._squares = squares.to(device) if fits else squares.pin_memory()
        self._levels_2N = _levels(preprocessing, squares, device)
        self._policy = run.config.policy
        self._flip = run.config.flip
        self._half_size_epochs = run.config.half_size_epochs
        self._device = device

    def take(self, batch: Tensor, generator: torch.Generator, epoch: int) -> Tensor:
        """Return the images of a batch as grey values, shape (B, 1, H, W).

        Args:
            batch: rows of the images, on the device.
            generator: of the augmentation.
            epoch: counted from 0; in the first ones, the recipe may ask for half the side.
        """
        squares = self._squares[batch.to(self._squares.device)].to(self._device, non_blocking=True)
        grey_B1HW = Preprocessing.stretch(squares, None if self._levels_2N is None else self._levels_2N[:, batch])
        if epoch < self._half_size_epochs:
            grey_B1HW = F.avg_pool2d(grey_B1HW, 2)
        return augment(grey_B1HW, self._policy, generator, flip=self._flip)


def _levels(preprocessing: Preprocessing, squares_NHW: Tensor, device: str) -> Tensor | None:
    """Return the levels that each image is stretched between, shape (2, n), on the device; None to leave them."""
    parts = [preprocessing.levels(part.to(device)) for part in squares_NHW.split(LEVELS_AT_A_TIME)]
    known = [part for part in parts if part is not None]
    return torch.cat(known, dim=1) if known else None


class FeatureBatches:
    """Features of the frozen layers; in each epoch, one view of each image is drawn.

    Args:
        images: the training images; a batch's numbers are their rows.
        views: the store of each view, as `features.extract` returns them.
        device: cpu, or cuda:<index>.
    """

    def __init__(self, images: pd.DataFrame, views: Sequence[ImageArrays], device: str) -> None:
        self._device = device
        self._image_ids = images["image_id"].tolist()
        self._views = views
        self._resident: Tensor | None = None
        if len(images) * len(self._views) * self._views[0].n_bytes <= RESIDENT_BYTES:
            loaded = [torch.from_numpy(view.load(self._image_ids)) for view in self._views]
            self._resident = torch.stack(loaded).to(device)

    def take(self, batch: Tensor, generator: torch.Generator, epoch: int) -> Tensor:
        """Return the features of a batch's images, shape (B, …), which have one size in every epoch."""
        view = torch.randint(len(self._views), (len(batch),), generator=generator)
        if self._resident is not None:
            return self._resident[view.to(self._device, non_blocking=True), batch].float()
        drawn = zip(view.tolist(), batch.tolist(), strict=True)
        arrays = [self._views[v].load([self._image_ids[row]]) for v, row in drawn]
        return torch.from_numpy(np.concatenate(arrays)).to(self._device, torch.float32)
