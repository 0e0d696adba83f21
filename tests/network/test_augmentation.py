import math

import pytest
import torch
import torch.nn.functional as F

from cxr.augmentation import POLICIES, Augmentation
from cxr.network.augmentation import augment


def images(n_images: int = 6) -> torch.Tensor:
    return torch.rand(n_images, 1, 40, 40, generator=torch.Generator().manual_seed(0))


def changed(policy: Augmentation, n_images: int = 40, image: torch.Tensor | None = None) -> torch.Tensor:
    """Return copies of one image, changed."""
    same = (images(1) if image is None else image).repeat(n_images, 1, 1, 1)
    return augment(same, policy, torch.Generator().manual_seed(0), flip=False)


@pytest.mark.parametrize("name", POLICIES)
def test_the_same_generator_state_gives_the_same_images(name: str) -> None:
    first, second = (augment(images(), POLICIES[name], torch.Generator().manual_seed(3), flip=True) for _ in range(2))
    torch.testing.assert_close(first, second, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["mild", "strong"])
def test_shape_and_range_are_kept_and_every_image_is_changed_by_its_own_draw(name: str) -> None:
    policy = POLICIES[name]
    assert policy is not None
    copies = changed(policy)
    assert copies.shape == (40, 1, 40, 40)
    assert copies.min() >= 0
    assert copies.max() <= 1
    assert all(not torch.equal(copies[0], other) for other in copies[1:])


def test_without_a_policy_nothing_changes_and_flip_only_mirrors() -> None:
    assert torch.equal(augment(images(), None, torch.Generator(), flip=False), images())
    torch.testing.assert_close(
        augment(images(), Augmentation(), torch.Generator(), flip=False), images(), atol=1e-5, rtol=0
    )
    mirrored = augment(images(40), None, torch.Generator().manual_seed(0), flip=True)
    is_same = [torch.allclose(a, b, atol=1e-4) for a, b in zip(mirrored, images(40), strict=True)]
    is_mirrored = [torch.allclose(a, b.flip(-1), atol=1e-4) for a, b in zip(mirrored, images(40), strict=True)]
    assert all(a != b for a, b in zip(is_same, is_mirrored, strict=True))
    assert 8 < sum(is_mirrored) < 32


def disc(radius: float) -> torch.Tensor:
    """Return a white disc on black, radius as a share of the side."""
    at = (torch.arange(40) + 0.5) / 40 - 0.5
    return ((at[:, None] ** 2 + at[None, :] ** 2) <= radius**2).float().view(1, 1, 40, 40)


def test_zoom_shows_between_the_least_and_the_largest_share_of_the_side() -> None:
    area = changed(Augmentation(zoom_in=0.5, zoom_out=2), 200, disc(0.2)).mean(dim=(1, 2, 3)) / disc(0.2).mean()
    assert area.max() == pytest.approx(1 / 0.5**2, rel=0.1)
    assert area.min() == pytest.approx(1 / 2**2, rel=0.2)


def test_shift_moves_the_image_by_up_to_its_share() -> None:
    moved = changed(Augmentation(shift=0.2), 200, disc(0.15))[:, 0]
    at = (torch.arange(40) + 0.5) / 40 - 0.5
    centres = (moved.sum(dim=1) * at).sum(dim=1) / moved.sum(dim=(1, 2))
    assert centres.abs().max() == pytest.approx(0.2, abs=0.01)


def test_gamma_contrast_and_brightness_do_what_they_say() -> None:
    flat = torch.full((1, 1, 8, 8), 0.25)
    exponents = changed(Augmentation(gamma=0.7), 400, flat)[:, 0, 0, 0].log() / math.log(0.25)
    assert exponents.min() == pytest.approx(math.exp(-0.7), abs=0.02)
    assert exponents.max() == pytest.approx(math.exp(0.7), abs=0.02)
    factors = (changed(Augmentation(contrast=0.4), 400, flat)[:, 0, 0, 0] - 0.5) / -0.25
    assert (factors.min().item(), factors.max().item()) == pytest.approx((0.6, 1.4), abs=0.01)
    added = changed(Augmentation(brightness=0.2), 400, flat)[:, 0, 0, 0] - 0.25
    assert (added.min().item(), added.max().item()) == pytest.approx((-0.2, 0.2), abs=0.01)


def test_blur_noise_and_erasure_reach_the_share_of_the_images_that_they_should() -> None:
    is_blurred = [not torch.allclose(copy, images(1)[0], atol=1e-4) for copy in changed(Augmentation(blur=0.3), 400)]
    assert sum(is_blurred) == pytest.approx(120, abs=30)
    grey = torch.full((1, 1, 40, 40), 0.5)
    spread = (changed(Augmentation(noise=0.04), 200, grey) - 0.5).std(dim=(1, 2, 3))
    assert 0.035 < spread.max() < 0.042
    halves = torch.cat([torch.zeros(1, 1, 40, 20), torch.ones(1, 1, 40, 20)], dim=3)
    shares = (changed(Augmentation(erase=0.4, erased_side=0.4), 400, halves) == 0.5).float().mean(dim=(1, 2, 3))
    assert (shares > 0).sum() == pytest.approx(160, abs=35)
    assert shares[shares > 0].min() == pytest.approx(0.1**2, abs=0.005)
    assert shares.max() == pytest.approx(0.4**2, abs=0.02)


def test_mild_changes_are_those_of_runs_from_before_there_were_policies() -> None:
    """Written out as they were: rotation by 10°, zoom by 0.1, shift by 0.05, contrast by 0.2, brightness by 0.1."""
    grey = images()
    draws = 2 * torch.rand(7, len(grey), generator=torch.Generator().manual_seed(5)) - 1
    turn, zoom, shift_x, shift_y, lighten, harden, mirror = draws.unbind()
    angle, scale, sign = turn * math.radians(10.0), 1 + 0.1 * zoom, mirror.sign()
    rows = [
        torch.stack([sign * scale * angle.cos(), -scale * angle.sin(), 0.05 * 2 * shift_x], dim=1),
        torch.stack([sign * scale * angle.sin(), scale * angle.cos(), 0.05 * 2 * shift_y], dim=1),
    ]
    grid = F.affine_grid(torch.stack(rows, dim=1), list(grey.shape), align_corners=False)
    moved = F.grid_sample(grey, grid, padding_mode="border", align_corners=False)
    contrast, brightness = (1 + 0.2 * harden).view(-1, 1, 1, 1), (0.1 * lighten).view(-1, 1, 1, 1)
    expected = ((moved - 0.5) * contrast + 0.5 + brightness).clamp(0, 1)
    generator = torch.Generator().manual_seed(5)
    assert torch.equal(augment(grey, POLICIES["mild"], generator, flip=True), expected)
    untouched = torch.Generator().manual_seed(5)
    torch.rand(7, len(grey), generator=untouched)
    assert torch.equal(generator.get_state(), untouched.get_state()), "no more is drawn than then"
