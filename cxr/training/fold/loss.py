"""The loss of a batch: cross-entropy or focal loss, weighted by label, on labels that may be smoothed or blended."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cxr.classes import Link
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


def soft_findings(targets_BK: Tensor, smoothing: float) -> Tensor:
    """Return each image's findings as shares, shape (B, 2 · n_findings): of their absence, then of their presence.

    Both shares of an unknown finding are 0.

    Args:
        targets_BK: 1 where a finding is present, 0 where absent, NaN where unknown.
        smoothing: share of a label that is spread over absence and presence.

    Source: as for `soft_labels`, of two classes.
    """
    known_BK = ~targets_BK.isnan()
    present_BK = targets_BK.nan_to_num() * (1 - smoothing) + smoothing / 2
    return torch.cat([(1 - present_BK) * known_BK, present_BK * known_BK], dim=1)


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
    other = torch.randperm(len(x_B), generator=generator).to(x_B.device, non_blocking=True)
    return torch.lerp(x_B[other], x_B, share), torch.lerp(labels_BC[other], labels_BC, share)


def log_probabilities(logits_BC: Tensor, link: Link) -> Tensor:
    """Return the logarithm of each label's probability: of the classes, or of each finding's absence, then presence.

    Args:
        logits_BC: a logit for each class or finding.
        link: softmax for classes, sigmoid for findings.
    """
    if link == "softmax":
        return logits_BC.log_softmax(dim=1)
    return torch.cat([F.logsigmoid(-logits_BC), F.logsigmoid(logits_BC)], dim=1)


def weighted_loss(logits_BC: Tensor, labels_BC: Tensor, weight_C: Tensor, loss: Loss, link: Link = "softmax") -> Tensor:
    """Return the sum of the images' losses, each label weighted.

    Args:
        logits_BC: float32.
        labels_BC: soft labels, of `soft_labels` or of `soft_findings`.
        weight_C: weight of each label.
        loss: focal multiplies each term by (1 − p)², p being the label's probability.
        link: of the logits and the probabilities.

    Source: Lin et al., Focal loss for dense object detection, ICCV 2017.
    """
    log_probability = log_probabilities(logits_BC, link)
    terms = -weight_C * labels_BC * log_probability
    return (terms * (1 - log_probability.exp()) ** FOCUS if loss == "focal" else terms).sum()
