"""A moving average of a network's weights over the training steps, which is kept in their place.

It smooths what single batches do to the weights, and it is what lets a long training with strong augmentation hold on
images of other sites. Source: Polyak & Juditsky 1992; Tarvainen & Valpola, Mean teachers, NIPS 2017.
"""

from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

RAMP = 10
"""The average is shorter at first: after n steps the decay is (1 + n) / (10 + n) at most."""


class MovingAverage:
    """The average of all parameters and batch statistics of the trained layers; counters are the layers' own.

    Args:
        layers: those that are trained; their tensors are changed in place, never replaced.
        decay: share of the average that a step keeps; 0 for no average.
    """

    def __init__(self, layers: nn.Module, decay: float) -> None:
        self._layers = layers
        self._decay = decay
        self._n_steps = 0
        # listed once: in each step this would take a GPU's host longer than all that is sent to the GPU
        tensors = layers.state_dict() if decay else {}
        self._current = {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point()}
        self._average = {name: tensor.clone() for name, tensor in self._current.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights after a step."""
        if not self._decay:
            return
        self._n_steps += 1
        decay = min(self._decay, (1 + self._n_steps) / (RAMP + self._n_steps))
        # one launch on a GPU, not 300
        get_ema_multi_avg_fn(decay)([*self._average.values()], [*self._current.values()], None)

    def apply(self) -> None:
        """Put the average in the place of the weights."""
        if self._decay:
            self._layers.load_state_dict(self._layers.state_dict() | self._average)

    def state_dict(self) -> dict[str, Any]:
        """Return all that a checkpoint has to hold."""
        return {"n_steps": self._n_steps, "average": self._average}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self._n_steps = state["n_steps"]
        for name, tensor in self._average.items():
            tensor.copy_(state["average"][name])
