import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight

from cxr.config import TrainConfig
from cxr.network.resnet import Classifier
from cxr.training.fold.optimiser import class_weights, make_optimiser, make_schedule


def test_class_weights_by_hand() -> None:
    assert class_weights([0, 1, 1, 1], 2) == [4 / (2 * 1), 4 / (2 * 3)]
    assert np.mean([class_weights([0, 1, 1, 2], 3)[target] for target in [0, 1, 1, 2]]) == pytest.approx(1)


def test_class_weights_are_those_of_scikit_learn() -> None:
    targets = np.random.default_rng(0).integers(0, 4, 50)
    expected = compute_class_weight("balanced", classes=np.arange(4), y=targets)
    assert class_weights(targets.tolist(), 4) == pytest.approx(expected.tolist())


@pytest.mark.parametrize(("weights", "rates"), [("imagenet-v1", [1e-3, 1e-4]), ("none", [1e-3, 1e-3])])
def test_pretrained_layers_learn_at_a_tenth_and_random_ones_at_full_rate(weights: str, rates: list[float]) -> None:
    model = Classifier(2)
    optimiser, _ = make_optimiser(model, TrainConfig(data="images", weights=weights, trainable="all"))
    assert [group["lr"] for group in optimiser.param_groups] == pytest.approx(rates)
    n_parameters = sum(p.numel() for group in optimiser.param_groups for p in group["params"])
    assert n_parameters == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(("trainable", "prefixes"), [("head", ("fc.",)), ("layer4", ("fc.", "layer4."))])
def test_only_the_layers_that_are_trained_get_gradients(trainable: str, prefixes: tuple[str, ...]) -> None:
    model = Classifier(2)
    _, modules = make_optimiser(model, TrainConfig(data="images", trainable=trainable))
    learning = {name.removeprefix("network.") for name, p in model.named_parameters() if p.requires_grad}
    assert learning
    assert all(name.startswith(prefixes) for name in learning)
    assert {id(p) for module in modules for p in module.parameters()} == {
        id(p) for p in model.parameters() if p.requires_grad
    }
    assert all(isinstance(module, torch.nn.Module) for module in modules)


def rates(**options: object) -> list[float]:
    """Return the head's learning rate at each of 20 steps."""
    config = TrainConfig(data="images", trainable="head", learning_rate=0.1, **options)
    optimiser, _ = make_optimiser(Classifier(2), config)
    schedule = make_schedule(optimiser, config, 20)
    found = []
    for _ in range(20):
        found.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step()
    return found


def test_the_learning_rate_rises_to_its_peak_and_falls_as_the_schedule_says() -> None:
    constant = rates(schedule="constant", warm_up=0.2)
    assert constant == pytest.approx([0.02, 0.04, 0.06, 0.08, *[0.1] * 16])
    cosine = rates(schedule="cosine", warm_up=0.2)
    fall = [0.05 * (1 + np.cos(np.pi * step / 16)) for step in range(16)]
    assert cosine == pytest.approx([0.02, 0.04, 0.06, 0.08, *fall])
    one_cycle = rates(schedule="one-cycle", warm_up=0.25)
    assert np.argmax(one_cycle) == 4
    assert max(one_cycle) == pytest.approx(0.1)
    assert one_cycle[-1] < 1e-4


def test_the_optimiser_has_the_weight_decay_of_the_recipe() -> None:
    optimiser, _ = make_optimiser(Classifier(2), TrainConfig(data="images", weight_decay=0.3))
    assert {group["weight_decay"] for group in optimiser.param_groups} == {0.3}
