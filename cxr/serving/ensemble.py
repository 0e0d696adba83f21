"""The networks of all folds, run side by side on the same images.

Layers that the folds share, such as a frozen trunk, run once; each fold's own layers run for each fold. The last layer
is small and always runs in float32. The features that come out with the logits are fold 0's input to that layer. Where
an image has several views, their features are averaged: the last layer is linear, so its output is the mean logit.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cxr.config import Arithmetic, Compile
from cxr.network.acceleration import accelerate
from cxr.network.int8 import load_int8
from cxr.serving.networks import PackagedNetworks, Part

STEP = 128
"""Images that pass through all layers together; bounds the memory for what lies between the layers."""


class Ensemble:
    """The networks of all folds, ready to run.

    Args:
        networks: a whole network is loaded only where no compiled graph of it is cached.
        device: cpu, or cuda:<index>.
        arithmetic: of all layers but the last, which computes in float32.
        n_images: number of images expected, to decide whether compiling pays off.
        compile: on, off, or auto.
        cache: keeps compiled graphs.
    """

    def __init__(
        self,
        networks: PackagedNetworks,
        *,
        device: str,
        arithmetic: Arithmetic,
        n_images: int,
        compile: Compile,
        cache: Path,
    ) -> None:
        def load(part: Part, fold: int) -> Callable[[Tensor], Tensor]:
            if arithmetic == "int8":
                return load_int8(networks.int8_graph(part, fold))
            return accelerate(
                lambda: layers_of(networks, part, fold),
                f"{networks.identity} {part} {fold}",
                device,
                bf16=arithmetic == "bf16",
                n_images=n_images * self._preprocessing.n_views,
                compile=compile,
                cache=cache,
            )

        self._device = device
        self._preprocessing = networks.preprocessing().to(device)
        loaded = {(part, fold): load(part, fold) for part, fold in parts_of(networks)}
        folds = range(networks.n_folds)
        self._shared = loaded.get(("shared", 0))
        self._own = [loaded.get(("own", fold)) for fold in folds]
        self._heads = [networks.head(fold) for fold in folds]

    @torch.inference_mode()
    def run(
        self, squares: NDArray[np.uint8], folds: Sequence[int] | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Return folds' logits, shape (n_folds, n, n_classes), and the first one's features, shape (n, 2048).

        Args:
            squares: shape (n, size, size).
            folds: to run; all if None.
        """
        wanted = range(len(self._heads)) if folds is None else folds
        logits: list[Tensor] = []
        features: list[Tensor] = []
        preprocessing = self._preprocessing
        for batch in torch.from_numpy(squares).split(max(1, STEP // preprocessing.n_views)):
            inputs = preprocessing.inputs(batch.to(self._device))  # a byte a pixel travels, once for all folds
            shared = self._shared(inputs) if self._shared else inputs
            parts = (self._own[fold] for fold in wanted)
            own = [preprocessing.mean_over_views(layers(shared) if layers else shared).cpu() for layers in parts]
            logits.append(torch.stack([self._heads[fold](x) for fold, x in zip(wanted, own, strict=True)]))
            features.append(own[0])
        return torch.cat(logits, dim=1).double().numpy(), torch.cat(features).numpy()


def parts_of(networks: PackagedNetworks) -> list[tuple[Part, int]]:
    """Return the parts before the last layers, in the order in which an image passes through them, each with a fold."""
    shared: list[tuple[Part, int]] = [("shared", 0)] if networks.trainable != "all" else []
    return shared + [("own", fold) for fold in range(networks.n_folds) if networks.trainable != "head"]


def layers_of(networks: PackagedNetworks, part: Part, fold: int) -> nn.Sequential:
    """Return the layers of a part of a fold's network."""
    model = networks.model(fold)
    shared, _ = model.stages(networks.trainable)
    trunk, _ = model.stages("head")
    return shared if part == "shared" else trunk[len(shared) :]
