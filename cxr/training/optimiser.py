"""Class weights, and the optimiser with a learning rate for each group of layers."""

from collections import Counter
from collections.abc import Sequence

import torch
from torch.optim import AdamW

from cxr.config import TrainConfig
from cxr.network.resnet import Classifier

PRETRAINED_SHARE = 0.1
"""Learning rate of pretrained layers as a share of the head's: they are refined, not learnt from scratch."""
WEIGHT_DECAY = 0.01


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
    return AdamW(groups, weight_decay=WEIGHT_DECAY, fused=True), [*parts["head"], *parts["trunk"]]
