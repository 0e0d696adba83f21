import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cxr.training.fold.loss import blend, soft_findings, soft_labels, weighted_loss

LOGITS = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
TARGETS = torch.tensor([0, 1, 2, 2, 1, 0])
WEIGHT = torch.tensor([0.5, 1.0, 2.0])


def test_cross_entropy_is_that_of_torch() -> None:
    expected = F.cross_entropy(LOGITS, TARGETS, weight=WEIGHT, reduction="sum")
    torch.testing.assert_close(weighted_loss(LOGITS, soft_labels(TARGETS, 3, 0), WEIGHT, "cross-entropy"), expected)


def test_smoothed_labels_give_the_loss_of_torch() -> None:
    expected = F.cross_entropy(LOGITS, TARGETS, weight=WEIGHT, reduction="sum", label_smoothing=0.1)
    torch.testing.assert_close(weighted_loss(LOGITS, soft_labels(TARGETS, 3, 0.1), WEIGHT, "cross-entropy"), expected)


def test_focal_loss_by_hand() -> None:
    logits = torch.tensor([[0.0, np.log(3.0)]])  # probabilities 1/4 and 3/4
    loss = weighted_loss(logits, torch.tensor([[0.0, 1.0]]), torch.tensor([1.0, 2.0]), "focal")
    assert loss.item() == pytest.approx(2 * (1 / 4) ** 2 * -np.log(3 / 4))


def test_blended_images_and_labels_are_mixed_in_the_same_share() -> None:
    images = torch.arange(6.0).view(6, 1, 1, 1) * torch.ones(6, 1, 4, 4)
    labels = torch.eye(6)
    x, y = blend(images, labels, 0.4, torch.Generator().manual_seed(5))
    torch.testing.assert_close(x[:, 0, 0, 0], y @ torch.arange(6.0))
    torch.testing.assert_close(y.sum(dim=1), torch.ones(6))
    torch.testing.assert_close(y.sum(dim=0), torch.ones(6))


def shares(strength: float) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    pairs = [blend(torch.eye(2), torch.eye(2), strength, generator)[1][0, 0] for _ in range(600)]
    return torch.stack(pairs)


def test_the_share_is_drawn_from_the_beta_distribution() -> None:
    mixed = shares(2.0)
    mixed = mixed[mixed < 1]  # the image was not blended with itself
    assert mixed.mean().item() == pytest.approx(0.5, abs=0.03)
    assert mixed.var().item() == pytest.approx(1 / (4 * (2 * 2 + 1)), rel=0.2)


FINDINGS = torch.tensor([[1, 0, torch.nan], [0, torch.nan, 1], [torch.nan] * 3, [1, 1, 0], [0, 0, 0], [1, 0, 1]])
TERMS = torch.tensor([0.5, 1.0, 2.0, 3.0, 1.5, 0.7])
"""Weights of the absence of three findings, then of their presence."""


def weight_of(labels_BK: Tensor) -> Tensor:
    """Return the weight of each known label, and 0 for an unknown one."""
    return torch.where(labels_BK == 1, TERMS[3:], torch.where(labels_BK == 0, TERMS[:3], 0.0))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_of_findings_is_binary_cross_entropy_of_torch_on_the_known_ones(smoothing: float) -> None:
    soft = FINDINGS.nan_to_num() * (1 - smoothing) + smoothing / 2
    positive, negative = -F.logsigmoid(LOGITS), -F.logsigmoid(-LOGITS)
    known = ~FINDINGS.isnan()
    expected = (known * (TERMS[3:] * soft * positive + TERMS[:3] * (1 - soft) * negative)).sum()
    labels = soft_findings(FINDINGS, smoothing)
    torch.testing.assert_close(weighted_loss(LOGITS, labels, TERMS, "cross-entropy", "sigmoid"), expected)
    if not smoothing:
        by_torch = F.binary_cross_entropy_with_logits(
            LOGITS, FINDINGS.nan_to_num(), weight_of(FINDINGS), reduction="sum"
        )
        torch.testing.assert_close(expected, by_torch)


def test_an_unknown_finding_has_no_gradient() -> None:
    logits = LOGITS.clone().requires_grad_()
    weighted_loss(logits, soft_findings(FINDINGS, 0.1), TERMS, "focal", "sigmoid").backward()
    assert logits.grad is not None
    assert (logits.grad[FINDINGS.isnan()] == 0).all()
    assert (logits.grad[~FINDINGS.isnan()] != 0).all()


def test_the_focal_loss_of_a_finding_by_hand() -> None:
    logits = torch.tensor([[np.log(3.0)]])  # probability 3/4
    present = weighted_loss(logits, soft_findings(torch.tensor([[1.0]]), 0), torch.ones(2), "focal", "sigmoid")
    absent = weighted_loss(logits, soft_findings(torch.tensor([[0.0]]), 0), torch.ones(2), "focal", "sigmoid")
    assert present.item() == pytest.approx((1 / 4) ** 2 * -np.log(3 / 4))
    assert absent.item() == pytest.approx((3 / 4) ** 2 * -np.log(1 / 4))


def test_blended_images_keep_the_share_of_what_is_known_of_each() -> None:
    labels = soft_findings(torch.tensor([[1.0], [torch.nan]]), 0)
    images, blended = blend(torch.eye(2), labels, 0.4, torch.Generator().manual_seed(5))
    torch.testing.assert_close(blended[:, 1], images[:, 0])  # presence: the share of the image in which it is known
    torch.testing.assert_close(blended[:, 0], torch.zeros(2))
