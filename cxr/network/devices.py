"""Which devices there are, how many folds run at the same time, and on how many threads each.

A slot is a device, or a share of one, that trains one fold at a time. A CPU can have several: for small convolutions,
two folds on one thread each use two cores better than one fold on two threads (201 against 162 images/s at 64 px).
"""

import ctypes
import math
import os
from pathlib import Path

import torch

from cxr.config import FoldsPerDevice, ScorePrecision, TrainConfig
from cxr.errors import DeviceError

M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
"""Options of glibc's mallopt; their values are in bytes."""
PROCESS_GIB = 1.5
"""Memory of a fold's process before the first batch: libraries, weights, optimiser, prepared images."""
ACTIVATIONS_GIB_PER_IMAGE = 0.11
"""Memory for the backward pass of a whole ResNet-50 in mixed precision, per image of 224 px."""
IMAGES_THAT_FILL_A_GPU = 320
"""Images of 224 px that folds side by side may train on in one step of each.

On an H200, five folds with batches of 64 trained 3,850 images/s together, and 3,302 in a second trial; one alone 2,653
and 2,466. More were not tried, nor another GPU.
"""


def keep_freed_memory() -> None:
    """Keep the memory of freed tensors in this process, on huge pages where it is large.

    Otherwise the system zeroes the pages again in each step: training at 64 px runs at 41 instead of 37 images/s,
    scoring at 86 instead of 82. Does nothing where the C library is not glibc.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch reads it at its first allocation
    if set_option := getattr(ctypes.CDLL(None), "mallopt", None):
        for option in (M_TRIM_THRESHOLD, M_MMAP_THRESHOLD):
            set_option(option, 2**30)


def resolve_devices(devices: str, config: TrainConfig, folds_per_device: FoldsPerDevice = "auto") -> list[str]:
    """Return the device of each slot, one after another in turns: every device once, then every one again, and so on.

    Args:
        devices: auto, or a list such as `cpu`, `cpu,cpu` (two slots with half the cores each) or `cuda:0,cuda:1`.
            auto means every GPU, or the CPU where there is none.
        config: the training, whose images and batches need memory.
        folds_per_device: slots of each device, or auto: a GPU gets as many as fit its memory without filling its
            compute, a CPU that auto found gets as many as its cores and memory allow, a CPU that was named gets one.

    Raises:
        DeviceError: a device is misspelt or does not exist.
    """
    listed = [] if devices == "auto" else [_require_present(device.strip()) for device in devices.split(",")]
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
    """Return the device that `--device` names: cpu, cuda:<index>, or auto, the first GPU if there is one.

    Raises:
        DeviceError: it is misspelt or does not exist.
    """
    return next(iter(_gpus()), "cpu") if device == "auto" else _require_present(device)


def _gpus() -> list[str]:
    return [f"cuda:{index}" for index in range(torch.cuda.device_count())]


def visible_gpus() -> list[str]:
    """Return the GPUs that this process sees, by their names in CUDA_VISIBLE_DEVICES."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    n_gpus = torch.cuda.device_count()
    return visible[:n_gpus] if visible != [""] else [str(index) for index in range(n_gpus)]


def _require_present(device: str) -> str:
    if device not in ("cpu", *_gpus()):
        raise DeviceError(f"device {device!r} does not exist; this machine has {', '.join(['cpu', *_gpus()])}.")
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
    """Return how many images of 224 px have as many pixels as a batch."""
    return config.batch_size * (config.size / 224) ** 2


def _memory_bytes() -> int:
    """Return the machine's memory, or the container's limit where that is lower."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.exists() else "max"
    return physical if text == "max" else min(physical, int(text))


def share_threads(n_folds: int, n_devices: int) -> list[int]:
    """Return the CPU threads of each fold: folds that run at the same time share the cores.

    Folds run in rounds of `n_devices`; in the last round fewer folds may share the cores. A fold's threads depend on
    its number alone, not on what else happens to run, so a repeated fold gives the same bits.
    """
    n_cores = torch.get_num_threads()
    rounds = [min(n_devices, n_folds - fold // n_devices * n_devices) for fold in range(n_folds)]
    return [max(1, n_cores // n_together) for n_together in rounds]


def uses_bf16(precision: ScorePrecision, device: str) -> bool:
    """Return whether to compute in bfloat16: if requested, or for auto if the device supports it."""
    if precision != "auto":
        return precision == "bf16"
    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
