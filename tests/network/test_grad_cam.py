import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from cxr.network.grad_cam import grad_cam, overlay
from cxr.network.resnet import Classifier

N, SIZE = 3, 64


def classifier(seed: int, n_classes: int = 2) -> Classifier:
    torch.manual_seed(seed)
    return Classifier(n_classes).eval()


@pytest.fixture(scope="module")
def squares() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (N, SIZE, SIZE), dtype=np.uint8)


def by_hand(model: Classifier, square: np.ndarray, target: int) -> np.ndarray:
    """With average pooling and one linear layer, a channel's weight is its gradient over the positions."""
    with torch.no_grad():
        *stages, _, _ = list(model.stages("head")[0])
        grey = model.preprocessing.inputs(torch.from_numpy(square[None]))
        features = torch.nn.Sequential(*stages)(grey)[0]
        logits = model.network.fc(features.mean(dim=(1, 2)))
        others = torch.softmax(logits.index_fill(0, torch.tensor(target), -torch.inf), 0)
        gain = model.network.fc.weight[target] - others @ model.network.fc.weight
        map_hw = torch.relu((gain[:, None, None] / features[0].numel() * features).sum(0))
        grown = torch.nn.functional.interpolate(map_hw[None, None], size=square.shape, mode="bilinear")[0, 0]
        return (grown / grown.max().clamp_min(1e-30)).numpy()


@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_map_is_what_the_last_layers_weights_say_place_by_place(n_classes: int, squares: np.ndarray) -> None:
    model = classifier(0, n_classes)
    maps = grad_cam([model], squares, np.array([0, 1, n_classes - 1]))
    for heat, square, target in zip(maps, squares, (0, 1, n_classes - 1), strict=True):
        np.testing.assert_allclose(heat, by_hand(model, square, target), atol=2e-4)


def test_a_batch_gives_what_single_images_give(squares: np.ndarray) -> None:
    model, target = classifier(0), np.array([1, 0, 1])
    together = grad_cam([model], squares, target)
    alone = [grad_cam([model], squares[k : k + 1], target[k : k + 1])[0] for k in range(N)]
    np.testing.assert_allclose(together, alone, atol=1e-4)
    assert together.shape == (N, SIZE, SIZE)
    assert together.min() >= 0
    assert together.max() <= 1


def test_an_ensemble_of_the_same_network_twice_is_that_network(squares: np.ndarray) -> None:
    model, target = classifier(0), np.ones(N, np.int64)
    np.testing.assert_allclose(grad_cam([model, model], squares, target), grad_cam([model], squares, target), atol=1e-5)


def test_where_nothing_speaks_for_a_class_the_map_is_empty(squares: np.ndarray) -> None:
    model = classifier(0)
    with torch.no_grad():
        model.network.fc.weight[0], model.network.fc.weight[1] = 0, -1  # layer 4 ends in a rectifier: never positive
    assert not grad_cam([model], squares, np.ones(N, np.int64)).any()
    assert grad_cam([model], squares, np.zeros(N, np.int64)).max() == 1


def test_random_weights_destroy_the_map(squares: np.ndarray) -> None:
    """A map that did not depend on the weights would show the image's edges, not the network."""
    targets = [np.full(N, k) for k in (0, 1)]
    first, second = (
        np.concatenate([grad_cam([classifier(seed)], squares, target) for target in targets]) for seed in (0, 1)
    )
    both = [(a.ravel(), b.ravel()) for a, b in zip(first, second, strict=True) if a.any() and b.any()]
    assert len(both) >= 2
    assert np.mean([abs(spearmanr(a, b).statistic) for a, b in both]) < 0.7


def test_an_overlay_keeps_the_images_aspect_and_leaves_it_alone_where_the_map_is_empty() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (40, 60), dtype=np.uint8)
    heat = np.zeros((32, 32), np.float32)
    plain = np.asarray(overlay(grey, heat))
    np.testing.assert_array_equal(plain, np.repeat(grey[..., None], 3, axis=2))
    heat[:, 16:] = 1
    laid = np.asarray(overlay(grey, heat))
    np.testing.assert_array_equal(laid[:, :28], plain[:, :28])
    assert (laid[:, 32:] != plain[:, 32:]).any(axis=2).mean() > 0.9


def test_the_map_of_a_finding_depends_on_no_other_finding(squares: np.ndarray) -> None:
    model, target = classifier(0, 3), np.ones(N, np.int64)
    before = grad_cam([model], squares, target, "sigmoid")
    with torch.no_grad():
        model.network.fc.weight[0] += 1
        model.network.fc.bias[2] -= 5
    np.testing.assert_allclose(grad_cam([model], squares, target, "sigmoid"), before, atol=1e-6)
    assert np.abs(grad_cam([model], squares, target) - before).max() > 0.01
