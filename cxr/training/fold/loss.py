"""The loss of a batch: cross-entropy or focal loss, weighted by class, on labels that may be smoothed or blended."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cxr.recipe import Loss

FOCUS = 2
"""Exponent of the focal loss."""


def soft_labels(targets_B: Tensor, n_classes: int, smoothing: float) -> Tensor:
    """Return each image's label as a distribution over the classes, shape (B, n_classes).

    Args:
        targets_B: class index of each image.
        n_classes: number of classes.
        smoothing: share of the label that is spread over all classes.

    Source: Szegedy et al., Rethinking the Inception architecture, CVPR 2016.
    """
    return F.one_hot(targets_B, n_classes).float() * (1 - smoothing) + smoothing / n_classes


def blend(x_B: Tensor, labels_BC: Tensor, strength: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return each image blended with another one of the batch, and their labels in the same shares.

    Args:
        x_B: images or features, shape (B, …).
        labels_BC: their soft labels.
        strength: the share of the batch's images is drawn from Beta(strength, strength).
        generator: a CPU generator.

    Source: Zhang et al., mixup: beyond empirical risk minimization, ICLR 2018.
    """
    seed = int(torch.randint(2**31, (), generator=generator))
    share = float(np.random.default_rng(seed).beta(strength, strength))
    other = torch.randperm(len(x_B), generator=generator).to(x_B.device)
    return torch.lerp(x_B[other], x_B, share), torch.lerp(labels_BC[other], labels_BC, share)


def weighted_loss(logits_BC: Tensor, labels_BC: Tensor, weight_C: Tensor, loss: Loss) -> Tensor:
    """Return the sum of the images' losses, each class weighted.

    Args:
        logits_BC: float32.
        labels_BC: soft labels.
        weight_C: weight of each class.
        loss: focal multiplies each term by (1 − p)², p being the class's probability.

    Source: Lin et al., Focal loss for dense object detection, ICCV 2017.
    """
    log_probability = logits_BC.log_softmax(dim=1)
    terms = -weight_C * labels_BC * log_probability
    return (terms * (1 - log_probability.exp()) ** FOCUS if loss == "focal" else terms).sum()
