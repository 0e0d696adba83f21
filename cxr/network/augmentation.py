"""Augmentation: random changes of a batch that do not alter what a reader would see in a radiograph.

All images of a batch are changed at once, on tensors and on their device, each with random values of its own. The
values come from the caller's generator, so a resumed run draws the same values as an uninterrupted one. All that there
is one of for an image, not for a pixel, is computed on the CPU and travels to the device without waiting for it: a GPU
that is waited for, or sent a hundred small tasks in each step, stands idle in between.
How far each change goes is in `cxr.augmentation`.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from cxr.augmentation import Augmentation

N_DRAWS, N_MORE = 7, 8
"""Random numbers for each image: of every policy, and of one that blurs, erases, stretches or changes gamma. Noise
takes a seed besides. Runs are resumed with the same draws only as long as their order stays."""
KERNEL = (0.25, 0.5, 0.25)
"""Binomial, for the blur."""


def augment(grey_B1HW: Tensor, policy: Augmentation | None, generator: torch.Generator, *, flip: bool) -> Tensor:
    """Return changed copies of the images, of the same shape and range.

    Args:
        grey_B1HW: values in [0, 1].
        policy: how far they may change; None for not at all, but for the flip.
        generator: a CPU generator.
        flip: mirror half of the images left to right, which puts the heart on the wrong side.
    """
    if policy is None and not flip:
        return grey_B1HW
    limits = policy or Augmentation()
    n_images = len(grey_B1HW)
    turn, zoom, shift_x, shift_y, brightness, contrast, mirror = _draw(N_DRAWS, n_images, generator)
    needs_more = limits.aspect or limits.gamma or limits.blur or limits.noise or limits.erase
    more = _draw(N_MORE, n_images, generator) if needs_more else torch.zeros(N_MORE, n_images)
    changed = _moved(grey_B1HW, _maps(limits, (turn, zoom, shift_x, shift_y, mirror, more[0]), flip=flip))
    changed = _change_levels(changed, limits, brightness, contrast, more[1])
    if limits.blur:
        changed = torch.where(_per_image(_share(more[2]) < limits.blur, changed), _blur(changed), changed)
    if limits.noise:
        changed = changed + _per_image(limits.noise * _share(more[3]), changed) * _noise(changed, generator)
    if limits.erase:
        changed = _erase(changed, limits, _share(more[4:]))
    return changed.clamp(0, 1)


def _draw(n_draws: int, n_images: int, generator: torch.Generator) -> Tensor:
    """Return numbers from [-1, 1) for each image, shape (n_draws, B), on the CPU."""
    return 2 * torch.rand(n_draws, n_images, generator=generator) - 1


def _share(draws: Tensor) -> Tensor:
    """Return draws from [-1, 1) as draws from [0, 1)."""
    return (draws + 1) / 2


def _per_image(values_B: Tensor, images_B1HW: Tensor) -> Tensor:
    """Return a value for each image, shape (B, 1, 1, 1), on the images' device."""
    return _sent(values_B.view(-1, 1, 1, 1), images_B1HW)


def _sent(values: Tensor, images: Tensor) -> Tensor:
    return values.to(images.device, non_blocking=True)


def _maps(limits: Augmentation, draws: Sequence[Tensor], *, flip: bool) -> Tensor:
    """Return the affine map of each image that rotates, zooms, stretches, shifts and mirrors it, shape (B, 2, 3)."""
    turn, zoom, shift_x, shift_y, mirror, aspect = draws
    angle = math.radians(limits.rotation) * turn
    shown = (limits.zoom_in + limits.zoom_out) / 2 + (limits.zoom_out - limits.zoom_in) / 2 * zoom
    stretch = (limits.aspect / 2 * aspect).exp()
    width = shown * stretch * (torch.where(mirror < 0, -1.0, 1.0) if flip else 1.0)
    height = shown / stretch
    return torch.stack(
        [
            torch.stack([width * angle.cos(), -height * angle.sin(), 2 * limits.shift * shift_x], dim=1),
            torch.stack([width * angle.sin(), height * angle.cos(), 2 * limits.shift * shift_y], dim=1),
        ],
        dim=1,
    )


def _moved(grey_B1HW: Tensor, maps_B23: Tensor) -> Tensor:
    grid = F.affine_grid(_sent(maps_B23, grey_B1HW), list(grey_B1HW.shape), align_corners=False)
    return F.grid_sample(grey_B1HW, grid, padding_mode="border", align_corners=False)


def _change_levels(
    grey_B1HW: Tensor, limits: Augmentation, brightness_B: Tensor, contrast_B: Tensor, gamma_B: Tensor
) -> Tensor:
    """Change gamma, contrast and brightness."""
    if limits.gamma:
        grey_B1HW = grey_B1HW.clamp(0, 1) ** _per_image((limits.gamma * gamma_B).exp(), grey_B1HW)
    factor_B111 = _per_image(1 + limits.contrast * contrast_B, grey_B1HW)
    return (grey_B1HW - 0.5) * factor_B111 + 0.5 + _per_image(limits.brightness * brightness_B, grey_B1HW)


def _blur(grey_B1HW: Tensor) -> Tensor:
    row = torch.tensor(KERNEL)
    padded = F.pad(grey_B1HW, (1, 1, 1, 1), mode="replicate")
    return F.conv2d(padded, _sent(torch.outer(row, row).view(1, 1, 3, 3), grey_B1HW))


def _noise(grey_B1HW: Tensor, generator: torch.Generator) -> Tensor:
    """Return normal noise, drawn on the device: a seed is all that travels there."""
    seed = int(torch.randint(2**62, (), generator=generator))
    of_device = torch.Generator(grey_B1HW.device).manual_seed(seed)
    return torch.randn(grey_B1HW.shape, generator=of_device, device=grey_B1HW.device)


def _erase(grey_B1HW: Tensor, limits: Augmentation, draws_4B: Tensor) -> Tensor:
    """Put the image's mean into a square at a random place, in the share of the images that the policy says."""
    erased, side, left, top = draws_4B.unbind()
    height, width = grey_B1HW.shape[2:]
    share = limits.erased_side * (0.25 + 0.75 * side)
    in_x = _between(left * (1 - share), share, width)
    in_y = _between(top * (1 - share), share, height) & (erased < limits.erase).unsqueeze(1)
    inside = _sent(in_y, grey_B1HW)[:, None, :, None] & _sent(in_x, grey_B1HW)[:, None, None, :]
    return torch.where(inside, grey_B1HW.mean(dim=(1, 2, 3), keepdim=True), grey_B1HW)


def _between(start_B: Tensor, share_B: Tensor, side: int) -> Tensor:
    """Return which pixels of a side lie in a stretch of it, shape (B, side); start and share are shares of the side."""
    centre = (torch.arange(side) + 0.5) / side
    return (centre >= start_B.unsqueeze(1)) & (centre < (start_B + share_B).unsqueeze(1))
