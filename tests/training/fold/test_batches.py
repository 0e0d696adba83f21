from collections.abc import Callable

import numpy as np
import torch

from cxr.network.preprocessing import Preprocessing
from cxr.training import features
from cxr.training.fold import batches
from cxr.training.fold.batches import FeatureBatches, SquareBatches
from cxr.training.run import Run

Begin = Callable[..., Run]
PLAIN = Preprocessing(torch.zeros(1, 3, 1, 1), torch.ones(1, 3, 1, 1))


def test_a_batch_of_squares_holds_the_images_of_its_rows(begin: Begin) -> None:
    run = begin(augment="none")
    images = run.training_images(0)
    taken = SquareBatches(run, images, PLAIN, "cpu").take(torch.tensor([5, 0]), torch.Generator(), 0)
    assert taken.shape == (2, 1, 32, 32)
    expected = run.squares(images.iloc[[5, 0]]).astype(np.float32) / 255
    np.testing.assert_allclose(taken[:, 0].numpy(), expected, atol=1e-6)


def test_a_pixel_of_half_the_side_is_the_mean_of_four_and_later_epochs_have_the_whole_side(begin: Begin) -> None:
    run = begin(augment="none", size=64, epochs=4, progressive=0.5)
    images = run.training_images(0)
    squares = SquareBatches(run, images, PLAIN, "cpu")
    sizes = [squares.take(torch.tensor([0]), torch.Generator(), epoch).shape[-1] for epoch in range(4)]
    assert sizes == [32, 32, 64, 64]
    taken = squares.take(torch.tensor([5, 0]), torch.Generator(), 0)[:, 0].numpy()
    expected = run.squares(images.iloc[[5, 0]]).reshape(2, 32, 2, 32, 2).mean(axis=(2, 4)) / 255
    np.testing.assert_allclose(taken, expected, atol=1e-6)


def test_augmentation_follows_the_generator_alone(begin: Begin) -> None:
    run = begin(augment="mild")
    squares = SquareBatches(run, run.training_images(0), PLAIN, "cpu")
    rows = torch.arange(4)
    first, again, other = (squares.take(rows, torch.Generator().manual_seed(seed), 0) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_features_read_batch_by_batch_are_those_kept_in_memory(begin: Begin, weights_file: str, monkeypatch) -> None:
    run = begin(weights=weights_file, trainable="head", views=2)
    images = run.training_images(0)
    views = features.extract(run, "cpu")
    resident = FeatureBatches(images, views, "cpu")
    monkeypatch.setattr(batches, "RESIDENT_BYTES", 0)
    read = FeatureBatches(images, views, "cpu")
    rows = torch.tensor([7, 2, 7, 0])
    kept, from_disk = (source.take(rows, torch.Generator().manual_seed(3), 0) for source in (resident, read))
    assert kept.shape == (4, 2048)
    assert torch.equal(kept, from_disk)
    ids = images["image_id"].iloc[[7, 2, 7, 0]].tolist()
    each = [view.load(ids) for view in views]
    assert all(any(np.array_equal(row, view[k]) for view in each) for k, row in enumerate(kept.numpy()))
