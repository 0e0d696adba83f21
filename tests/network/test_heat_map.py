import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from cxr.network.heat_map import heat_maps, map_method, overlay
from cxr.network.resnet import Classifier

N, SIZE = 3, 64
LARGE = 193
"""The smallest that is explained on the last group of layers, in pixels a side."""


def classifier(seed: int, n_classes: int = 2) -> Classifier:
    torch.manual_seed(seed)
    return Classifier(n_classes).eval()


def noise(n: int, size: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, size, size), dtype=np.uint8)


@pytest.fixture(scope="module")
def squares() -> np.ndarray:
    return noise(N, SIZE)


def stretched(map_hw: torch.Tensor, square: np.ndarray) -> np.ndarray:
    grown = torch.nn.functional.interpolate(map_hw[None, None], size=square.shape, mode="bilinear")[0, 0]
    return (grown / grown.max().clamp_min(1e-30)).numpy()


def layers_of(model: Classifier, square: np.ndarray) -> dict[str, torch.Tensor]:
    """What each group of layers puts out, and what goes into the first."""
    network, outputs = model.network, {}
    x = network.maxpool(network.relu(network.bn1(network.conv1(model.preprocessing.inputs(square_of(square))))))
    for name in ("layer1", "layer2", "layer3", "layer4"):
        outputs[name] = x = getattr(network, name)(x)
    return outputs


def square_of(square: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(square[None])


def grad_cam_by_hand(model: Classifier, square: np.ndarray, target: int) -> np.ndarray:
    """With average pooling and one linear layer, a channel's weight is its gradient over the positions."""
    with torch.no_grad():
        features = layers_of(model, square)["layer4"][0]
        logits = model.network.fc(features.mean(dim=(1, 2)))
        others = torch.softmax(logits.index_fill(0, torch.tensor(target), -torch.inf), 0)
        gain = model.network.fc.weight[target] - others @ model.network.fc.weight
        return stretched(torch.relu((gain[:, None, None] / features[0].numel() * features).sum(0)), square)


def hirescam_by_hand(model: Classifier, square: np.ndarray, target: int) -> np.ndarray:
    """The gradient at each position by itself, of the rest of the network alone."""
    with torch.no_grad():
        features = layers_of(model, square)["layer3"]
    features.requires_grad_()
    logits = model.network.fc(model.network.layer4(features).mean(dim=(2, 3)))[0]
    others = torch.cat([logits[:target], logits[target + 1 :]])
    (logits[target] - others.logsumexp(0)).backward()
    assert features.grad is not None
    return stretched(torch.relu((features.grad * features.detach()).sum(1)[0]), square)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_map_of_a_small_image_is_hirescam_of_the_third_group_of_layers(n_classes: int, squares: np.ndarray) -> None:
    model = classifier(0, n_classes)
    maps = heat_maps([model], squares, np.array([0, 1, n_classes - 1]))
    for heat, square, target in zip(maps, squares, (0, 1, n_classes - 1), strict=True):
        np.testing.assert_allclose(heat, hirescam_by_hand(model, square, target), atol=2e-4)


def test_a_map_of_a_large_image_is_grad_cam_of_the_last_group_of_layers() -> None:
    model, (square,) = classifier(0), noise(1, LARGE)
    for target in (0, 1):
        (heat,) = heat_maps([model], square[None], np.array([target]))
        np.testing.assert_allclose(heat, grad_cam_by_hand(model, square, target), atol=2e-4)


@pytest.mark.parametrize(
    ("size", "described"),
    [
        (64, "HiResCAM (layer3, 4 × 4 cells)"),
        (97, "HiResCAM (layer3, 7 × 7 cells)"),
        (192, "HiResCAM (layer3, 12 × 12 cells)"),
        (193, "Grad-CAM (layer4, 7 × 7 cells)"),
        (224, "Grad-CAM (layer4, 7 × 7 cells)"),
    ],
)
def test_seven_cells_a_side_are_enough_for_grad_cam(size: int, described: str) -> None:
    method = map_method(size)
    assert str(method) == described
    with torch.no_grad():
        found = layers_of(classifier(0), noise(1, size)[0])[method.layer].shape[2:]
    assert found == (method.n_cells, method.n_cells)


def test_a_batch_gives_what_single_images_give(squares: np.ndarray) -> None:
    model, target = classifier(0), np.array([1, 0, 1])
    together = heat_maps([model], squares, target)
    alone = [heat_maps([model], squares[k : k + 1], target[k : k + 1])[0] for k in range(N)]
    np.testing.assert_allclose(together, alone, atol=1e-4)
    assert together.shape == (N, SIZE, SIZE)
    assert together.min() >= 0
    assert together.max() <= 1


def test_an_ensemble_of_the_same_network_twice_is_that_network(squares: np.ndarray) -> None:
    model, target = classifier(0), np.ones(N, np.int64)
    np.testing.assert_allclose(
        heat_maps([model, model], squares, target), heat_maps([model], squares, target), atol=1e-5
    )


def test_where_nothing_speaks_for_a_class_the_map_is_empty() -> None:
    model, square = classifier(0), noise(1, LARGE)
    with torch.no_grad():
        model.network.fc.weight[0], model.network.fc.weight[1] = 0, -1  # layer 4 ends in a rectifier: never positive
    assert not heat_maps([model], square, np.array([1])).any()
    assert heat_maps([model], square, np.array([0])).max() == 1


def test_random_weights_destroy_the_map(squares: np.ndarray) -> None:
    """A map that did not depend on the weights would show the image's edges, not the network."""
    targets = [np.full(N, k) for k in (0, 1)]
    first, second = (
        np.concatenate([heat_maps([classifier(seed)], squares, target) for target in targets]) for seed in (0, 1)
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
    before = heat_maps([model], squares, target, "sigmoid")
    with torch.no_grad():
        model.network.fc.weight[0] += 1
        model.network.fc.bias[2] -= 5
    np.testing.assert_allclose(heat_maps([model], squares, target, "sigmoid"), before, atol=1e-6)
    assert np.abs(heat_maps([model], squares, target) - before).max() > 0.01
