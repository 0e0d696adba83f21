"""Which devices there are, how many folds run at a time, and on how many threads each.

One fold runs on one device at a time. A CPU may be named several times: small convolutions use two cores
better as two folds of one thread than as one fold of two (131 against 100 images/s at 64 px on 2 cores).
"""

import ctypes
import math
import os
from pathlib import Path

import torch

from cxr.config import FoldsPerDevice, ScorePrecision, TrainConfig
from cxr.errors import DeviceError

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Options of glibc's mallopt, in bytes."""
PROCESS_GIB = 1.5
"""Memory of a fold's process before the first batch: libraries, weights, optimiser, prepared images."""
ACTIVATIONS_GIB_PER_IMAGE = 0.11
"""What a 224 px image keeps in memory for the backward pass of a whole ResNet-50 in mixed precision."""
IMAGES_THAT_FILL_A_GPU = 64
"""A batch of so many images of 224 px is taken to keep a GPU busy by itself; an assumption, not measured yet."""


def keep_freed_memory() -> None:
    """Keep freed tensors with this process for the next step, large ones on huge pages.

    The system would zero their pages again each time: training at 64 px ran at 41 against 37 images/s, scoring
    originals at 86 against 82. Does nothing where the C library is not glibc.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch reads it at its first allocation
    if set_option := getattr(ctypes.CDLL(None), "mallopt", None):
        for option in (M_TRIM_THRESHOLD, M_MMAP_THRESHOLD):
            set_option(option, 2**30)


def resolve_devices(devices: str, config: TrainConfig, folds_per_device: FoldsPerDevice = "auto") -> list[str]:
    """Return the device of each slot: every device once, then every one again, as many folds as each takes.

    Args:
        devices: auto, or a list such as `cpu`, `cpu,cpu` (two folds at a time, half the cores each) or
            `cuda:0,cuda:1`. Auto is every GPU, or the CPU where there is none.
        folds_per_device: a number, or auto: a GPU takes as many folds as fit its memory and do not fill it, the
            CPU that auto has found as many as there are cores and memory for, a CPU that was named one.

    Raises:
        DeviceError: a device is misspelt or not there.
    """
    listed = [] if devices == "auto" else [_require_present(slot.strip()) for slot in devices.split(",")]
    named = listed or _gpus() or ["cpu"]

    def n_slots(device: str) -> int:
        if folds_per_device != "auto":
            return folds_per_device
        if device == "cpu":
            return 1 if listed else _n_cpu_slots(config)
        return _n_gpu_slots(config, device, len(named))

    slots = {device: n_slots(device) for device in named}
    return [device for turn in range(max(slots.values())) for device in named if turn < slots[device]]


def resolve_device(device: str) -> str:
    """Return the one device that `--device` names: cpu, cuda:<index>, or auto, the first GPU if there is one.

    Raises:
        DeviceError: it is misspelt or not there.
    """
    return next(iter(_gpus()), "cpu") if device == "auto" else _require_present(device)


def _gpus() -> list[str]:
    return [f"cuda:{index}" for index in range(torch.cuda.device_count())]


def visible_gpus() -> list[str]:
    """Return the GPUs that this process sees, as CUDA_VISIBLE_DEVICES calls them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    n_gpus = torch.cuda.device_count()
    return visible[:n_gpus] if visible != [""] else [str(index) for index in range(n_gpus)]


def _require_present(device: str) -> str:
    if device not in ("cpu", *_gpus()):
        raise DeviceError(f"{device!r} is no device of this machine, which has {', '.join(['cpu', *_gpus()])}.")
    return device


def _n_cpu_slots(config: TrainConfig) -> int:
    by_memory = int(_memory_bytes() / 2**30 / _fold_gib(config))
    return max(1, min(torch.get_num_threads(), config.folds, by_memory))


def _n_gpu_slots(config: TrainConfig, device: str, n_devices: int) -> int:
    by_memory = int(torch.cuda.get_device_properties(device).total_memory / 2**30 / _fold_gib(config))
    by_work = int(IMAGES_THAT_FILL_A_GPU / _images_of_224_px(config))
    return max(1, min(by_memory, by_work, math.ceil(config.folds / n_devices)))


def _fold_gib(config: TrainConfig) -> float:
    return PROCESS_GIB + _images_of_224_px(config) * ACTIVATIONS_GIB_PER_IMAGE


def _images_of_224_px(config: TrainConfig) -> float:
    """Return how many images of 224 px a batch has as many pixels as."""
    return config.batch_size * (config.size / 224) ** 2


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


def uses_bf16(precision: ScorePrecision, device: str) -> bool:
    """Tell whether bfloat16 is used: where asked, or where the device has it."""
    if precision != "auto":
        return precision == "bf16"
    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
