"""Layers whose weights stay as they are, run as fast as the machine allows.

Batch norm is folded into the convolutions, tensors lie channels-last, arithmetic is bfloat16 where the
device has it, and batches are small on a CPU, so that they stay in its cache. On top of that a compiled
graph, an AOTInductor package with the weights frozen into it: made once for these weights, this shape and
this machine, kept in `cache/compiled/`, and loaded in a tenth of a second ever after. It takes whole batches
only, so the last one is filled up; an image that comes alone goes through the layers themselves alone.

When is it made? Making takes about as long as 4,000 images save by it (30 to 45 s on 2 cores; 66 images/s become
97). So `auto` counts the images that went through the layers in earlier runs and in this one, and makes the
graph when they are 4,000: a nightly job makes it after some scoring runs, and nobody waits longer for it than it
has cost to do without. Once made it is used for any number of images.
"""

import hashlib
import itertools
import json
import logging
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cxr.config import Compile
from cxr.errors import DeviceError
from cxr.storage import files
from cxr.storage.cache_folder import CacheFolder

log = logging.getLogger(__name__)

CPU_VALUES = 2**20
"""Input values of a batch on a CPU, at most: 4 images of 224 px, 64 of 64.

On 2 cores batches of 4 to 16 images are equally fast at 224 px, while at 64 px 64 images are 1.1 times as fast as 16.
"""
LARGEST_BATCH = {"cpu": 64, "cuda": 128}
REPAYS = 4000
"""Images from which a compiled graph repays its making."""


def accelerate(
    layers: Callable[[], nn.Module],
    identity: str,
    device: str,
    *,
    bf16: bool,
    n_images: int,
    compile: Compile,
    cache: Path,
) -> Callable[[Tensor], Tensor]:
    """Return a function from inputs (n, …) to the layers' outputs (n, …), float32 on the CPU.

    Args:
        layers: makes the layers, in evaluation mode, to keep and change; not called where a compiled graph of them
            is at hand.
        identity: names layers and weights: other ones have another.
        device: cpu, or cuda:<index>.
        bf16: compute in bfloat16.
        n_images: how many images are to come.
        compile: on, off, or auto.
        cache: keeps compiled graphs.

    Raises:
        DeviceError: compiling is asked for and there is no C++ compiler.
    """
    dtype = torch.bfloat16 if bf16 else torch.float32
    graph = _Graph(CacheFolder(cache), _kind(identity, device, dtype))
    is_compiled = compile == "on" or (compile == "auto" and graph.repays(n_images))
    if is_compiled and not graph.is_made and not _has_compiler(device):
        if compile == "on":
            raise DeviceError("--compile on needs a C++ compiler (on Debian: apt install g++), and none is here.")
        log.info("a compiled graph would repay, but there is no C++ compiler (g++) here")
        is_compiled = False
    run: Callable[[Tensor], Tensor] | None = None

    def prepared() -> nn.Module:
        module = fold_batch_norm(layers()).to(device, dtype)
        return module.to(memory_format=torch.channels_last).requires_grad_(False)

    @torch.inference_mode()
    def forward(inputs_N: Tensor) -> Tensor:
        nonlocal run
        batch, outputs = batch_size(inputs_N[0], device), []
        for part in inputs_N.split(batch):
            whole = _filled_up(part, batch) if is_compiled else part
            whole = whole.to(device, dtype, memory_format=torch.channels_last)
            if run is None:
                run = graph.load(prepared, whole, device) if is_compiled else prepared()
            outputs.append(run(whole)[: len(part)].float().cpu())
        return torch.cat(outputs)

    return forward


def batch_size(image: Tensor, device: str) -> int:
    """Return how many images go through the layers at a time: a power of two, as is what callers hand over."""
    if device.startswith("cuda"):
        return LARGEST_BATCH["cuda"]
    return min(LARGEST_BATCH["cpu"], 1 << (max(1, CPU_VALUES // image.numel()).bit_length() - 1))


def _filled_up(part_N: Tensor, batch: int) -> Tensor:
    """Return the part with its first image repeated until there are as many as in a batch."""
    return torch.cat([part_N, part_N[:1].expand(batch - len(part_N), *part_N.shape[1:])])


def fold_batch_norm(module: nn.Module) -> nn.Module:
    """Return the module with every batch norm that follows a convolution folded into it; changes it in place."""
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    names = list(module._modules)
    for name, following in itertools.pairwise(names):
        convolution, norm = module._modules[name], module._modules[following]
        if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            module._modules[name] = fuse_conv_bn_eval(convolution, norm)
            module._modules[following] = nn.Identity()
    for child in module.children():
        fold_batch_norm(child)
    return module


def _kind(identity: str, device: str, dtype: torch.dtype) -> str:
    """Return a key of what a compiled graph depends on: weights, arithmetic, the machine's abilities, torch, batch."""
    ability = torch.cuda.get_device_name(device) if device.startswith("cuda") else torch.cpu.get_capabilities()
    batch = [CPU_VALUES, LARGEST_BATCH]
    facts = [identity, torch.__version__, ability, torch.get_num_threads(), str(dtype), batch]
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _has_compiler(device: str) -> bool:
    return device.startswith("cuda") or bool(shutil.which("g++") or shutil.which("clang++"))


@dataclass(frozen=True)
class _Graph:
    """A compiled graph in the cache, and how many images went through its layers."""

    cache: CacheFolder
    kind: str

    @property
    def file(self) -> Path:
        return self.cache.compiled_graph(self.kind)

    @property
    def is_made(self) -> bool:
        return self.file.exists()

    def repays(self, n_images: int) -> bool:
        """Add the images that are to come to those that went through before; tell whether the graph repays."""
        count = self.cache.image_count(self.kind)
        n_before = files.read_json(count)["images"] if count.exists() else 0
        files.write_json(count, {"images": n_before + n_images})
        return self.is_made or n_before + n_images >= REPAYS

    def load(self, layers: Callable[[], nn.Module], example: Tensor, device: str) -> Callable[[Tensor], Tensor]:
        """Return the graph, made of the layers for inputs like the example where the cache lacks it."""
        if self.is_made:
            try:
                return self._open(device)
            except RuntimeError as error:
                log.warning("the compiled graph %s is damaged (%s); it is made again", self.file, error)
        self._make(layers(), example)
        return self._open(device)

    def _open(self, device: str) -> Callable[[Tensor], Tensor]:
        index = torch.device(device).index if device.startswith("cuda") else -1
        # what torch._inductor.aoti_load_package wraps, without the seconds that importing the compiler takes
        package_loader: Any = vars(torch._C)["_aoti"].AOTIModelPackageLoader
        loader = package_loader(str(self.file), "model", False, 1, index)
        return lambda inputs: loader.boxed_run([inputs])[0]

    def _make(self, layers: nn.Module, example: Tensor) -> None:
        import torch._inductor

        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(self.cache.compiler.resolve()))
        started = time.monotonic()
        log.info("compiling the network, once for this machine and these weights")
        with torch.no_grad(), files.replacing(self.file) as temporary:
            exported = torch.export.export(layers, (example,))
            # a package's name has to end so
            made = temporary.with_suffix(".pt2")
            torch._inductor.aoti_compile_and_package(
                exported, package_path=str(made), inductor_configs={"freezing": True}
            )
            made.rename(temporary)
        shutil.rmtree(self.cache.compiler, ignore_errors=True)
        log.info("compiled in %.0f s", time.monotonic() - started)


def compiled_graphs(cache: Path) -> tuple[str, ...]:
    """Return the compiled graphs in the cache: a judge made before one was may round otherwise than one made since."""
    return tuple(path.name for path in CacheFolder(cache).compiled_graphs())
