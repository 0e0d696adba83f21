"""The folds of a run side by side: one image, one answer of each fold.

What the folds share, a frozen trunk, runs once; what each has trained runs for each; the last layer, small
and in float32, comes last. The features in front of it are those of fold 0.
"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cxr.config import Arithmetic, Compile
from cxr.network.acceleration import accelerate
from cxr.network.int8 import load_int8
from cxr.network.resnet import normalise, to_grey
from cxr.serving.networks import PackagedNetworks, Part

STEP = 128
"""Images that go through all layers together; bounds the memory of what lies between the layers."""


class Ensemble:
    """The networks of all folds, ready to run.

    Args:
        networks: asked for a whole network only where no compiled graph of it is at hand.
        device: cpu, or cuda:<index>.
        arithmetic: what the layers compute in; the last one always in float32.
        n_images: how many images are to come.
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
        def fast(part: Part, fold: int):
            if arithmetic == "int8":
                return load_int8(networks.int8_graph(part, fold))
            identity = f"{networks.identity} {part} {fold}"
            return accelerate(
                lambda: layers_of(networks, part, fold),
                identity,
                device,
                bf16=arithmetic == "bf16",
                n_images=n_images,
                compile=compile,
                cache=cache,
            )

        made = {key: fast(*key) for key in parts_of(networks)}
        folds = range(networks.n_folds)
        self._mean, self._std = networks.constants()
        self._shared = made.get(("shared", 0))
        self._own = [made.get(("own", fold)) for fold in folds]
        self._heads = [networks.head(fold) for fold in folds]

    @torch.inference_mode()
    def run(self, squares: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Return each fold's logits, shape (n_folds, n, n_classes), and fold 0's features, (n, 2048).

        Args:
            squares: shape (n, size, size).
        """
        logits, features = [], []
        for part in torch.from_numpy(squares).split(STEP):
            inputs = normalise(to_grey(part), self._mean, self._std)
            shared = self._shared(inputs) if self._shared else inputs
            own = [layers(shared) if layers else shared for layers in self._own]
            logits.append(torch.stack([head(x) for head, x in zip(self._heads, own, strict=True)]))
            features.append(own[0])
        return torch.cat(logits, dim=1).double().numpy(), torch.cat(features).numpy()


def parts_of(networks: PackagedNetworks) -> list[tuple[Part, int]]:
    """Return the parts that the layers in front of the last ones have, in the order in which an image goes through."""
    shared: list[tuple[Part, int]] = [("shared", 0)] if networks.trainable != "all" else []
    return shared + [("own", fold) for fold in range(networks.n_folds) if networks.trainable != "head"]


def layers_of(networks: PackagedNetworks, part: Part, fold: int) -> nn.Sequential:
    """Return the layers of a part of a fold's network."""
    model = networks.model(fold)
    shared, _ = model.stages(networks.trainable)
    trunk, _ = model.stages("head")
    return shared if part == "shared" else trunk[len(shared) :]
