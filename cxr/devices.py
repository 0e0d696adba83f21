"""Which devices there are, how many folds run at a time, and on how many threads each.

One fold runs on one device at a time. A CPU may be named several times: small convolutions use two cores
better as two folds of one thread than as one fold of two (131 against 100 films/s at 64 px on 2 cores).
"""

import os
from pathlib import Path

import torch

from cxr.config import Precision, TrainConfig
from cxr.errors import DeviceError

PROCESS_GIB = 1.5
"""Memory of a fold's process before the first batch: libraries, weights, optimiser, prepared films."""
ACTIVATIONS_GIB_PER_FILM = 0.11
"""What a 224 px film keeps in memory for the backward pass of a whole ResNet-50 in mixed precision."""


def resolve_devices(devices: str, config: TrainConfig) -> list[str]:
    """Return the device of each slot that `--devices` names.

    Args:
        devices: auto, or a list such as `cpu`, `cpu,cpu` (two folds at a time, half the cores each) or
            `cuda:0,cuda:1`. Auto is every GPU; without one it is the CPU as often as there are cores, folds
            and memory for it.

    Raises:
        DeviceError: a device is misspelt or not there.
    """
    if devices == "auto":
        return _gpus() or ["cpu"] * _n_cpu_slots(config)
    return [_require_present(slot.strip()) for slot in devices.split(",")]


def resolve_device(device: str) -> str:
    """Return the one device that `--device` names: cpu, cuda:<index>, or auto, the first GPU if there is one.

    Raises:
        DeviceError: it is misspelt or not there.
    """
    return next(iter(_gpus()), "cpu") if device == "auto" else _require_present(device)


def _gpus() -> list[str]:
    return [f"cuda:{index}" for index in range(torch.cuda.device_count())]


def _require_present(device: str) -> str:
    if device not in ("cpu", *_gpus()):
        raise DeviceError(f"{device!r} is no device of this machine, which has {', '.join(['cpu', *_gpus()])}.")
    return device


def _n_cpu_slots(config: TrainConfig) -> int:
    memory_gib = _memory_bytes() / 2**30
    fold_gib = PROCESS_GIB + config.batch_size * (config.size / 224) ** 2 * ACTIVATIONS_GIB_PER_FILM
    return max(1, min(torch.get_num_threads(), config.folds, int(memory_gib / fold_gib)))


def _memory_bytes() -> int:
    """Return the machine's memory, or the container's limit where that is lower."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.exists() else "max"
    return physical if text == "max" else min(physical, int(text))


def share_threads(n_folds: int, n_devices: int) -> list[int]:
    """Return the CPU threads of each fold: the cores shared among the folds that run at the same time.

    Folds run in rounds of `n_devices`; in the last round fewer may share the cores. It depends on the
    fold's number alone, not on what else happens to run, so a fold repeated gives the same bits.
    """
    n_cores = torch.get_num_threads()
    rounds = [min(n_devices, n_folds - fold // n_devices * n_devices) for fold in range(n_folds)]
    return [max(1, n_cores // n_together) for n_together in rounds]


def uses_bf16(precision: Precision, device: str) -> bool:
    """Tell whether bfloat16 is used: where asked, or where the device has it."""
    if precision != "auto":
        return precision == "bf16"
    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
