"""Augmentation: mild changes that do not alter what a reader would see in a radiograph.

All images of a batch are changed at once, on tensors, each with random values of its own: rotation, zoom, shift,
brightness and contrast. The values come from the caller's generator, on the CPU, so a resumed run draws the same values
as an uninterrupted one.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

TURN_DEGREES = 10.0
ZOOM = 0.1
SHIFT = 0.05
"""As a share of the image's side."""
BRIGHTNESS = 0.1
CONTRAST = 0.2


def augment(grey_B1HW: Tensor, generator: torch.Generator, *, flip: bool) -> Tensor:
    """Return changed copies of the images, of the same shape and range.

    Args:
        grey_B1HW: values in [0, 1].
        generator: a CPU generator; advanced by seven values per image.
        flip: mirror half of the images left to right, which puts the heart on the wrong side.
    """
    n_images = len(grey_B1HW)
    draws = 2 * torch.rand(7, n_images, generator=generator) - 1
    turn, zoom, shift_x, shift_y, lighten, harden, mirror = draws.unbind()
    sign = mirror.sign() if flip else torch.ones(n_images)
    angle = turn * math.radians(TURN_DEGREES)
    scale = 1 + ZOOM * zoom
    theta_B23 = torch.stack(
        [
            torch.stack([sign * scale * angle.cos(), -scale * angle.sin(), SHIFT * 2 * shift_x], dim=1),
            torch.stack([sign * scale * angle.sin(), scale * angle.cos(), SHIFT * 2 * shift_y], dim=1),
        ],
        dim=1,
    ).to(grey_B1HW)
    grid = F.affine_grid(theta_B23, list(grey_B1HW.shape), align_corners=False)
    moved_B1HW = F.grid_sample(grey_B1HW, grid, padding_mode="border", align_corners=False)
    contrast_B111 = (1 + CONTRAST * harden).to(grey_B1HW).view(-1, 1, 1, 1)
    brightness_B111 = (BRIGHTNESS * lighten).to(grey_B1HW).view(-1, 1, 1, 1)
    return ((moved_B1HW - 0.5) * contrast_B111 + 0.5 + brightness_B111).clamp(0, 1)
