"""The networks of a package, read from weights that the test writes."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from cxr.network.resnet import Classifier
from cxr.serving.networks import PackagedNetworks
from cxr.storage.model_folder import PackageFolder
from tests.support.shared import NewFolder

HEAD = ("network.fc.weight", "network.fc.bias")


@pytest.fixture(scope="module")
def models() -> list[Classifier]:
    """Two networks for three classes that differ in their last layer only."""
    torch.manual_seed(0)
    first, second = Classifier(3), Classifier(3)
    second.load_state_dict(first.state_dict() | {name: second.state_dict()[name] for name in HEAD})
    return [first, second]


@pytest.fixture(scope="module")
def networks(models: list[Classifier], new_folder: NewFolder) -> PackagedNetworks:
    folder = PackageFolder(new_folder("package"))
    save_file({k: v for k, v in models[0].state_dict().items() if k not in HEAD}, folder.shared_weights)
    for fold, model in enumerate(models):
        save_file({name: model.state_dict()[name] for name in HEAD}, folder.fold_weights(fold))
    return PackagedNetworks(folder, n_classes=3, n_folds=2, trainable="head", identity="test")


@pytest.mark.parametrize("fold", [0, 1])
def test_a_network_is_the_shared_tensors_and_its_own(
    networks: PackagedNetworks, models: list[Classifier], fold: int
) -> None:
    network = networks.model(fold)
    expected = models[fold].state_dict()
    assert network.state_dict().keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in network.state_dict().items())
    assert not any(module.training for module in network.modules())


@pytest.mark.parametrize("fold", [0, 1])
def test_the_last_layer_is_read_without_the_rest(
    networks: PackagedNetworks, models: list[Classifier], fold: int
) -> None:
    head = networks.head(fold)
    features = torch.rand(4, 2048)
    torch.testing.assert_close(head(features), models[fold].network.fc(features), rtol=0, atol=0)
    assert not head.training


@pytest.mark.parametrize("optional", [{}, {"percentiles": torch.tensor([2.0, 98.0]), "view_maps": torch.rand(4, 2, 3)}])
@pytest.mark.parametrize("is_shared", [True, False])
def test_constants_are_found_among_the_shared_tensors_and_among_a_folds_own(
    tmp_path: Path, is_shared: bool, optional: dict[str, torch.Tensor]
) -> None:
    folder = PackageFolder(tmp_path)
    constants = {"mean": torch.rand(1, 3, 1, 1), "std": torch.rand(1, 3, 1, 1)} | optional
    other = {"other": torch.zeros(1)}
    save_file(constants if is_shared else other, folder.shared_weights)
    save_file(other if is_shared else constants, folder.fold_weights(0))
    found = PackagedNetworks(folder, 2, 1, "all", "test").preprocessing()
    assert torch.equal(found.mean, constants["mean"])
    assert torch.equal(found.std, constants["std"])
    if optional:
        assert found.percentiles is not None
        assert found.percentiles.tolist() == [2, 98]
        assert found.view_maps is not None
        assert torch.equal(found.view_maps, constants["view_maps"])
    else:
        assert found.percentiles is None
        assert found.view_maps is None


def test_each_part_of_each_fold_has_an_int8_graph_of_its_own(networks: PackagedNetworks) -> None:
    paths = {networks.int8_graph(part, fold) for part in ("shared", "own") for fold in range(2)}
    assert len(paths) == 4
    assert {path.parent for path in paths} == {networks.folder.path}
