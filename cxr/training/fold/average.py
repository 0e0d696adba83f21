"""A moving average of a network's weights over the training steps, which is kept in their place.

It smooths what single batches do to the weights, and it is what lets a long training with strong augmentation hold on
images of other sites. Source: Polyak & Juditsky 1992; Tarvainen & Valpola, Mean teachers, NIPS 2017.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

RAMP = 10
"""The average is shorter at first: after n steps the decay is (1 + n) / (10 + n) at most."""


class MovingAverage:
    """The average of all parameters and batch statistics of the trained layers.

    Args:
        layers: those that are trained.
        decay: share of the average that a step keeps; 0 for no average.
    """

    def __init__(self, layers: nn.Module, decay: float) -> None:
        self._layers = layers
        self._decay = decay
        self._n_steps = 0
        self._average = {name: tensor.clone() for name, tensor in layers.state_dict().items()} if decay else {}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights after a step."""
        if not self._decay:
            return
        self._n_steps += 1
        decay = min(self._decay, (1 + self._n_steps) / (RAMP + self._n_steps))
        pairs = [(self._average[name], tensor) for name, tensor in self._layers.state_dict().items()]
        smooth = [pair for pair in pairs if pair[1].is_floating_point()]
        averages, current = map(list, zip(*smooth, strict=True))
        get_ema_multi_avg_fn(decay)(averages, current, None)  # one launch on a GPU, not 300
        for average, counter in pairs:
            if not counter.is_floating_point():
                average.copy_(counter)

    def apply(self) -> None:
        """Put the average in the place of the weights."""
        if self._decay:
            self._layers.load_state_dict(self._average)

    def state_dict(self) -> dict[str, Any]:
        """Return all that a checkpoint has to hold."""
        return {"n_steps": self._n_steps, "average": self._average}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self._n_steps = state["n_steps"]
        average: dict[str, Tensor] = state["average"]
        for name, tensor in average.items():
            self._average[name].copy_(tensor)
