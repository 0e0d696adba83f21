import pytest
import torch
from torch import nn

from cxr.training.fold.average import MovingAverage


def layers() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))


def step(module: nn.Module, value: float) -> None:
    with torch.no_grad():
        for tensor in module.state_dict().values():
            tensor.fill_(value)


def test_the_average_by_hand() -> None:
    module = layers()
    step(module, 1)
    average = MovingAverage(module, 0.5)
    expected = 1.0
    for n, value in enumerate([2.0, 4.0, 3.0, 7.0], start=1):
        step(module, value)
        average.update()
        decay = min(0.5, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * value
    average.apply()
    assert module[0].weight[0, 0].item() == pytest.approx(expected)
    assert module[1].running_mean[0].item() == pytest.approx(expected)
    assert module[1].num_batches_tracked.item() == 7


def test_an_average_that_goes_on_from_its_state_is_the_same() -> None:
    whole, broken = layers(), layers()
    averages = [MovingAverage(module, 0.9) for module in (whole, broken)]
    for value in range(3):
        for module, average in zip((whole, broken), averages, strict=True):
            step(module, value)
            average.update()
    resumed = MovingAverage(broken, 0.9)
    resumed.load_state_dict(averages[1].state_dict())
    for module, average in ((whole, averages[0]), (broken, resumed)):
        step(module, 9)
        average.update()
        average.apply()
    assert all(
        torch.equal(a, b) for a, b in zip(whole.state_dict().values(), broken.state_dict().values(), strict=True)
    )


def test_without_a_decay_the_weights_stay_as_they_are() -> None:
    module = layers()
    average = MovingAverage(module, 0)
    step(module, 3)
    average.update()
    average.apply()
    assert module[0].weight[0, 0].item() == 3
    assert average.state_dict() == {"n_steps": 0, "average": {}}
