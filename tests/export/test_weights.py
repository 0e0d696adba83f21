import torch
from safetensors.torch import load_file

from cxr.serving.package import Package
from cxr.training.run import Run


def test_every_fold_comes_back_with_the_weights_it_was_trained_to(packaged: tuple[Run, Package]) -> None:
    run, package = packaged
    for fold in range(2):
        trained, model = load_file(run.folder.fold(fold).weights), package.networks.model(fold)
        assert not any(module.training for module in model.modules())
        assert model.state_dict().keys() == trained.keys()
        assert all(torch.equal(tensor, trained[name]) for name, tensor in model.state_dict().items())
        assert torch.equal(package.networks.head(fold).weight, trained["network.fc.weight"])
        assert torch.equal(package.networks.head(fold).bias, trained["network.fc.bias"])
        preprocessing = package.networks.preprocessing()
        assert torch.equal(preprocessing.mean, trained["mean"])
        assert torch.equal(preprocessing.std, trained["std"])


def test_weights_that_all_folds_share_are_stored_once(packaged: tuple[Run, Package]) -> None:
    run, package = packaged
    folder = package.folder
    shared, *own = (set(load_file(f)) for f in (folder.shared_weights, folder.fold_weights(0), folder.fold_weights(1)))
    assert own[0] == own[1]
    assert not shared & own[0]
    if run.config.trainable == "head":
        assert own[0] == {"network.fc.weight", "network.fc.bias"}
    else:
        assert {"mean", "std"} <= shared
        assert not any(name.endswith(("weight", "bias")) for name in shared)
