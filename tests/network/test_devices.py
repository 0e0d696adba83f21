import pytest
import torch

from cxr.config import TrainConfig
from cxr.errors import DeviceError
from cxr.network.devices import resolve_devices, share_threads, uses_bf16

CONFIG = TrainConfig(data="x", size=64)


def test_a_list_of_devices_is_used_as_given() -> None:
    assert resolve_devices("cpu, cpu", CONFIG) == ["cpu", "cpu"]


def test_a_missing_device_is_named() -> None:
    with pytest.raises(DeviceError, match="device 'cuda:99' does not exist; this machine has cpu"):
        resolve_devices("cuda:99", CONFIG)


@pytest.mark.skipif(torch.cuda.is_available(), reason="auto means the GPU of this machine")
def test_auto_without_a_gpu_runs_folds_side_by_side_as_cores_and_memory_allow() -> None:
    assert resolve_devices("auto", CONFIG) == ["cpu"] * min(torch.get_num_threads(), 5)
    assert resolve_devices("auto", TrainConfig(data="x", size=1024, batch_size=4096)) == ["cpu"]


def test_every_device_takes_its_folds_in_turns() -> None:
    assert resolve_devices("cpu", CONFIG, 3) == ["cpu"] * 3
    assert resolve_devices("cpu", CONFIG) == ["cpu"]


def test_folds_of_one_round_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    assert share_threads(5, 2) == [4, 4, 4, 4, 8]
    assert share_threads(5, 3) == [2, 2, 2, 4, 4]
    assert share_threads(3, 16) == [2, 2, 2]
    assert share_threads(20, 16)[0] == 1


def test_precision_is_taken_as_given_and_auto_asks_the_device() -> None:
    assert uses_bf16("bf16", "cpu")
    assert not uses_bf16("fp32", "cpu")
    assert uses_bf16("auto", "cpu") == torch.cpu.get_capabilities().get("avx512_bf16", False)
