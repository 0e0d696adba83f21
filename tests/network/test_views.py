import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from cxr.network.heat_map import heat_maps
from cxr.network.preprocessing import Preprocessing
from cxr.network.resnet import Classifier, predict_logits
from cxr.network.views import seen_through, view_maps
from cxr.recipe import TestViews as Views

SIDE = 20
SQUARES = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE), dtype=np.uint8)


def corner(image: np.ndarray, *, bottom: bool, right: bool) -> np.ndarray:
    """Return nine tenths of an image's rows and columns, drawn at its own size: sampled at the new pixels' centres."""
    centres = (np.arange(len(image)) + 0.5) * 0.9 - 0.5
    rows, columns = centres + 0.1 * len(image) * bottom, centres + 0.1 * len(image) * right
    return map_coordinates(image, np.meshgrid(rows, columns, indexing="ij"), order=1, mode="nearest")


def views_by_hand(image: np.ndarray, views: Views) -> list[np.ndarray]:
    corners = [corner(image, bottom=bottom, right=right) for bottom in (False, True) for right in (False, True)]
    five = [image, *corners]
    return {"none": [image], "zoom": five, "zoom-and-flip": [*five, *(view[:, ::-1] for view in five)]}[views]


def preprocessing(views: Views) -> Preprocessing:
    return Preprocessing(torch.full((1, 3, 1, 1), 0.4), torch.full((1, 3, 1, 1), 0.2), view_maps=view_maps(views))


@pytest.mark.parametrize("views", ["none", "zoom", "zoom-and-flip"])
def test_views_are_the_image_its_corners_and_if_asked_their_mirror_images(views: Views) -> None:
    prepare = preprocessing(views)
    seen = prepare.views(prepare.grey(torch.from_numpy(SQUARES))).numpy()[:, 0]
    expected = np.stack([views_by_hand(square / 255.0, views) for square in SQUARES], axis=1)
    assert prepare.n_views == len(expected)
    np.testing.assert_allclose(seen, np.concatenate(expected), atol=1e-5)


def test_the_image_itself_is_among_its_views_to_the_bit() -> None:
    prepare = preprocessing("zoom")
    grey = prepare.grey(torch.from_numpy(SQUARES))
    assert torch.equal(prepare.views(grey)[: len(grey)], grey)


def test_what_is_averaged_belongs_to_one_image() -> None:
    outputs = torch.arange(5.0)[:, None] * 100 + torch.tensor([[1.0, 2.0, 3.0]])  # view by view, image by image
    mean = preprocessing("zoom").mean_over_views(outputs.reshape(15, 1))
    assert mean.tolist() == [[201], [202], [203]]


def test_an_image_of_one_level_has_that_level_in_every_view() -> None:
    grey = torch.full((2, 1, 33, 33), 0.25)
    maps = view_maps("zoom-and-flip")
    assert maps is not None
    assert len(maps) == 9
    for map_23 in maps:
        torch.testing.assert_close(seen_through(grey, map_23), grey)


@pytest.fixture(scope="module")
def model() -> Classifier:
    torch.manual_seed(0)
    return Classifier(3, test_views="zoom-and-flip").eval()


def without_views(model: Classifier) -> Classifier:
    """The network as its weights were before there were views."""
    state = {name: tensor for name, tensor in model.state_dict().items() if name != "view_maps"}
    return Classifier.from_weights(3, state).eval()


def test_predicted_logits_are_the_mean_over_the_views(model: Classifier) -> None:
    squares = np.random.default_rng(1).integers(0, 256, (8, 32, 32), dtype=np.uint8)  # more than go through at once
    expected = []
    for square in squares:
        views = np.stack(views_by_hand(square / 255.0, "zoom-and-flip")).astype(np.float32)
        with torch.inference_mode():
            expected.append(model(torch.from_numpy(views).unsqueeze(1)).double().mean(dim=0).numpy())
    found = predict_logits(model, squares, "cpu")
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    assert np.abs(found - predict_logits(without_views(model), squares, "cpu")).max() > 1e-2


def test_weights_carry_their_views_and_those_of_before_have_none(model: Classifier) -> None:
    loaded = Classifier.from_weights(3, model.state_dict())
    assert model.view_maps is not None
    assert loaded.view_maps is not None
    assert torch.equal(loaded.view_maps, model.view_maps)
    assert without_views(model).view_maps is None
    assert "view_maps" not in Classifier(3).state_dict()


def test_a_map_of_where_the_network_looked_is_of_the_image_itself(model: Classifier) -> None:
    squares = np.random.default_rng(2).integers(0, 256, (2, 64, 64), dtype=np.uint8)
    target = np.array([0, 2])
    found = heat_maps([model], squares, target)
    np.testing.assert_array_equal(found, heat_maps([without_views(model)], squares, target))
