"""The folds of a run side by side: one film, one answer of each fold.

What the folds share, a frozen trunk, runs once; what each has trained runs for each; the last layer, small
and in float32, comes last. The features in front of it are those of fold 0.
"""

from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cxr.config import Compile, Trainable
from cxr.forward import accelerate
from cxr.model import Classifier, normalise, to_grey

STEP = 128
"""Films that go through all layers together; bounds the memory of what lies between the layers."""


class Networks(Protocol):
    """Where an ensemble finds the networks of its folds."""

    @property
    def n_folds(self) -> int:
        """How many there are."""
        ...

    @property
    def trainable(self) -> Trainable:
        """What was trained: everything before it is the same in all folds."""
        ...

    @property
    def identity(self) -> str:
        """Names the weights: other ones have another."""
        ...

    def model(self, fold: int) -> Classifier:
        """Return a fold's network, in evaluation mode."""
        ...

    def head(self, fold: int) -> nn.Linear:
        """Return the last layer of a fold's network."""
        ...

    def constants(self) -> tuple[Tensor, Tensor]:
        """Return the mean and deviation that inputs are normalised with, each of shape (1, 3, 1, 1)."""
        ...


class Ensemble:
    """The networks of all folds, ready to run.

    Args:
        networks: asked for a whole network only where no compiled graph of it is at hand.
        device: cpu, or cuda:<index>.
        bf16: compute in bfloat16; the last layer always in float32.
        n_films: how many films are to come.
        compile: on, off, or auto.
        cache: keeps compiled graphs.
    """

    def __init__(
        self, networks: Networks, *, device: str, bf16: bool, n_films: int, compile: Compile, cache: Path
    ) -> None:
        def fast(part: str, fold: int):
            identity = f"{networks.identity} {part} {fold}"
            return accelerate(
                lambda: _part(networks.model(fold), networks.trainable, part), identity, device, bf16=bf16,
                n_films=n_films, compile=compile, cache=cache,
            )  # fmt: skip

        folds = range(networks.n_folds)
        self._mean, self._std = networks.constants()
        self._shared = fast("shared", 0) if networks.trainable != "all" else None
        self._own = [fast("own", fold) if networks.trainable != "head" else None for fold in folds]
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


def _part(model: Classifier, trainable: Trainable, part: str) -> nn.Module:
    """Return what all folds share of a network, or what is the fold's own in front of its last layer."""
    shared, _ = model.stages(trainable)
    trunk, _ = model.stages("head")
    return shared if part == "shared" else trunk[len(shared) :]
