"""Frozen layers, run as fast as the machine allows.

Batch norm is folded into the convolutions, tensors lie channels-last, arithmetic is bfloat16 where the
device has it, and batches are small on a CPU, so that they stay in its cache. On top of that
`torch.compile` with frozen weights, where it repays: on 2 cores with AMX (Xeon, 224 px) 87 films/s
become 150 to 200, while compiling takes 20 s the first time and 5 s with its kernels in `cache/compiled/`.
So `auto` compiles from 4,000 films on, and from 1,000 on once this machine has compiled these layers.
"""

import copy
import hashlib
import itertools
import json
import logging
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from cxr import store
from cxr.config import Compile
from cxr.errors import DeviceError

log = logging.getLogger(__name__)

CPU_BATCH, COMPILED_BATCH, GPU_BATCH = 8, 16, 128
REPAYS_COLD, REPAYS_WARM = 4000, 1000
"""Films from which compiling repays, the first time and later."""


def accelerate(
    layers: nn.Sequential, device: str, *, bf16: bool, n_films: int, size: int, compile: Compile, cache: Path
) -> Callable[[Tensor], Tensor]:
    """Return a function from images (n, 3, size, size) to the layers' output (n, …), float32 on the CPU.

    Args:
        layers: in evaluation mode; copied, not changed.
        device: cpu, or cuda:<index>.
        bf16: compute in bfloat16.
        n_films: how many films are to come; compiling has to repay.
        size: side of the images, in pixels.
        compile: on, off, or auto.
        cache: keeps compiled kernels.

    Raises:
        DeviceError: compiling is asked for and there is no C++ compiler.
    """
    fast = fold_batch_norm(copy.deepcopy(layers)).to(device, torch.bfloat16 if bf16 else torch.float32)
    fast = fast.to(memory_format=torch.channels_last).requires_grad_(False)
    folder = cache / "compiled"
    made = folder / f"made-{_kind(fast, device, size)}.json"
    compiled = _is_to_be_compiled(compile, device, n_films, made.exists())
    batch = GPU_BATCH if device.startswith("cuda") else COMPILED_BATCH if compiled else CPU_BATCH
    run = _compile(fast, folder, made) if compiled else fast

    @torch.inference_mode()
    def forward(images_N3HW: Tensor) -> Tensor:
        parts = []
        for part in images_N3HW.split(batch):
            whole = torch.cat([part, part[:1].expand(batch - len(part), -1, -1, -1)])  # one shape, compiled once
            whole = whole.to(device, torch.bfloat16 if bf16 else torch.float32, memory_format=torch.channels_last)
            parts.append(run(whole)[: len(part)].float().cpu())
        return torch.cat(parts)

    return forward


def fold_batch_norm(module: nn.Module) -> nn.Module:
    """Return the module with every batch norm that follows a convolution folded into it; changes it in place."""
    names = list(module._modules)
    for name, following in itertools.pairwise(names):
        convolution, norm = module._modules[name], module._modules[following]
        if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            module._modules[name] = fuse_conv_bn_eval(convolution, norm)
            module._modules[following] = nn.Identity()
    for child in module.children():
        fold_batch_norm(child)
    return module


def _kind(layers: nn.Module, device: str, size: int) -> str:
    """Return a key of what compiled kernels depend on: the layers' shapes, the machine's abilities, torch."""
    shapes = [(name, list(tensor.shape), str(tensor.dtype)) for name, tensor in layers.state_dict().items()]
    ability = torch.cuda.get_device_name(device) if device.startswith("cuda") else torch.cpu.get_capabilities()
    facts = [torch.__version__, ability, torch.get_num_threads(), size, shapes]
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _is_to_be_compiled(compile: Compile, device: str, n_films: int, is_warm: bool) -> bool:
    compiler = device.startswith("cuda") or shutil.which("g++") or shutil.which("clang++")
    if compile == "on" and not compiler:
        raise DeviceError("--compile on needs a C++ compiler (on Debian: apt install g++), and none is here.")
    repays = n_films >= (REPAYS_WARM if is_warm else REPAYS_COLD)
    if compile == "auto" and repays and not compiler:
        log.info("compiling would repay for %d films, but there is no C++ compiler (g++) here", n_films)
    return compile == "on" or (compile == "auto" and repays and bool(compiler))


def _compile(layers: nn.Module, folder: Path, made: Path) -> Callable[[Tensor], Tensor]:
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder.resolve()))
    compiled, started = torch.compile(layers, dynamic=False, options={"freezing": True}), time.monotonic()
    first = True

    def run(images_B3HW: Tensor) -> Tensor:
        nonlocal first
        output = compiled(images_B3HW)
        if first:
            log.info("compiled in %.0f s", time.monotonic() - started)
            store.write_json(made, {"seconds": round(time.monotonic() - started, 1), "made_at": store.now()})
            first = False
        return output

    return run
