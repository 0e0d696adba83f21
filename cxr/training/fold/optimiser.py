"""Class weights, the optimiser with a learning rate for each group of layers, and the schedule of those rates."""

import math
from collections import Counter
from collections.abc import Sequence

import torch
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from cxr.config import TrainConfig
from cxr.network.resnet import Classifier

PRETRAINED_SHARE = 0.1
"""Learning rate of pretrained layers as a share of the head's: they are refined, not learnt from scratch."""


def class_weights(targets: Sequence[int], n_classes: int) -> list[float]:
    """Return n / (n_classes · n_class) for each class: rare classes weigh more, and the mean weight of an image is 1.

    Args:
        targets: class index of each training image.
        n_classes: each class needs an image.

    Source: King & Zeng 2001; scikit-learn's class_weight="balanced".
    """
    counts = Counter(targets)
    return [len(targets) / (n_classes * counts[index]) for index in range(n_classes)]


def make_optimiser(model: Classifier, config: TrainConfig) -> tuple[AdamW, Sequence[torch.nn.Module]]:
    """Freeze what is not trained; return AdamW over the trained parameters, head first, and the trained modules."""
    share = 1.0 if config.weights == "none" else PRETRAINED_SHARE
    parts = model.trained_parts(config.trainable)
    model.requires_grad_(False)
    groups = []
    for modules, rate in ((parts["head"], config.learning_rate), (parts["trunk"], config.learning_rate * share)):
        parameters = [p.requires_grad_() for module in modules for p in module.parameters()]
        if parameters:
            groups.append({"params": parameters, "lr": rate})
    return AdamW(groups, weight_decay=config.weight_decay, fused=True), [*parts["head"], *parts["trunk"]]


def make_schedule(optimiser: AdamW, config: TrainConfig, n_steps: int) -> LRScheduler:
    """Return the schedule of the learning rates over all training steps: a rise to their peaks, then a fall.

    One-cycle also lowers AdamW's first momentum while the rates are high (Smith & Topin 2018). Cosine and constant rise
    linearly; cosine falls to zero (Loshchilov & Hutter 2017).
    """
    peaks = [group["lr"] for group in optimiser.param_groups]
    if config.schedule == "one-cycle":
        return OneCycleLR(optimiser, max_lr=peaks, total_steps=n_steps, pct_start=config.warm_up)
    n_rising = config.warm_up * n_steps

    def share(step: int) -> float:
        """Return the share of its peak that the rate has at a step."""
        if step < n_rising:
            return (step + 1) / (n_rising + 1)
        if config.schedule == "constant":
            return 1.0
        return 0.5 * (1 + math.cos(math.pi * (step - n_rising) / max(1, n_steps - n_rising)))

    return LambdaLR(optimiser, share)
