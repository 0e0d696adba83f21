import torch

from cxr.network import augmentation
from cxr.network.augmentation import augment


def images(n_images: int = 6) -> torch.Tensor:
    return torch.rand(n_images, 1, 40, 40, generator=torch.Generator().manual_seed(0))


def test_the_same_generator_state_gives_the_same_images() -> None:
    first, second = (augment(images(), torch.Generator().manual_seed(3), flip=True) for _ in range(2))
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_shape_and_range_are_kept_and_every_image_is_changed_by_its_own_draw() -> None:
    same = images(1).repeat(6, 1, 1, 1)
    changed = augment(same, torch.Generator().manual_seed(0), flip=False)
    assert changed.shape == same.shape
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert all(not torch.equal(changed[0], other) for other in changed[1:])


def test_without_strength_nothing_changes_and_flip_only_mirrors(monkeypatch) -> None:
    for name in ("TURN_DEGREES", "ZOOM", "SHIFT", "BRIGHTNESS", "CONTRAST"):
        monkeypatch.setattr(augmentation, name, 0.0)
    torch.testing.assert_close(augment(images(), torch.Generator(), flip=False), images(), atol=1e-5, rtol=0)
    mirrored = augment(images(40), torch.Generator().manual_seed(0), flip=True)
    is_same = [torch.allclose(a, b, atol=1e-4) for a, b in zip(mirrored, images(40), strict=True)]
    is_mirrored = [torch.allclose(a, b.flip(-1), atol=1e-4) for a, b in zip(mirrored, images(40), strict=True)]
    assert all(a != b for a, b in zip(is_same, is_mirrored, strict=True))
    assert 8 < sum(is_mirrored) < 32
