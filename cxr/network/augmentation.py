"""Mild changes to a batch of images that a reader would not call another image.

All images of a batch are changed in one go on tensors, each by its own draw: turned, zoomed, shifted,
made lighter or darker and harder or softer. The draws come from a generator of the caller's, on the
CPU, so a run that is taken up again draws what it would have drawn.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

TURN_DEGREES, ZOOM, SHIFT, BRIGHTNESS, CONTRAST = 10.0, 0.1, 0.05, 0.1, 0.2


def augment(grey_B1HW: Tensor, generator: torch.Generator, *, flip: bool) -> Tensor:
    """Return changed copies of the images, shape and range (0 to 1) kept.

    Args:
        grey_B1HW: values in [0, 1].
        generator: a CPU generator; advanced by seven draws an image.
        flip: mirror an image left to right half of the time. A mirrored heart lies on the wrong side.
    """
    n_images = len(grey_B1HW)
    draws = 2 * torch.rand(7, n_images, generator=generator) - 1
    turn, zoom, shift_x, shift_y, lighten, harden, mirror = draws.unbind()
    sign = mirror.sign() if flip else torch.ones(n_images)
    angle, scale = turn * math.radians(TURN_DEGREES), 1 + ZOOM * zoom
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
