"""Layers with fixed weights, run as fast as the machine allows.

Batch norm is folded into the convolutions, tensors are channels-last, the arithmetic is bfloat16 where the device
supports it, and batches on a CPU are small enough to stay in its cache. On top of that comes a compiled graph: an
AOTInductor package with the weights frozen into it, compiled once for these weights, this input shape and this
machine, kept in `cache/compiled/`, and loaded in a tenth of a second from then on. A graph takes whole batches only, so
a smaller last batch is filled up.

When to compile: compiling takes 30 to 45 s on 2 cores, and a graph saves that on 5,600 to 9,300 images (66 images/s
become 97). So `auto` counts the images that went through the layers in earlier runs and this one, and compiles when
there are 4,000, which have lost 20 s by then: a nightly job soon gets there, and a single small batch never waits.
Once compiled, the graph is used for any number of images.
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
"""Input values in a batch on a CPU, at most: 4 images of 224 px, or 64 images of 64 px.

On 2 cores, batches of 4 to 16 images are equally fast at 224 px; at 64 px, 64 images are 1.1 times as fast as 16.
"""
LARGEST_BATCH = {"cpu": 64, "cuda": 128}
"""Images in a batch, at most."""
REPAYS = 4000
"""Images that have gone through the layers on this machine, or are about to, when `auto` compiles."""


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
    """Return a function from inputs (n, …) to the layers' outputs (n, …), which are float32 on the device.

    Args:
        layers: makes the layers, in evaluation mode; they are changed. Not called where a compiled graph is cached.
        identity: names the layers and their weights; has to differ where either does.
        device: cpu, or cuda:<index>.
        bf16: compute in bfloat16.
        n_images: number of images expected, to decide whether compiling pays off.
        compile: on, off, or auto.
        cache: keeps compiled graphs.

    Raises:
        DeviceError: `compile` is on but there is no C++ compiler.
    """
    dtype = torch.bfloat16 if bf16 else torch.float32
    graph = _Graph(CacheFolder(cache), _kind(identity, device, dtype))
    is_compiled = compile == "on" or (compile == "auto" and graph.repays(n_images))
    if is_compiled and not graph.is_made and not _has_compiler(device):
        if compile == "on":
            raise DeviceError("--compile on needs a C++ compiler, and there is none (on Debian: apt install g++).")
        log.info("a compiled graph would save time, but there is no C++ compiler (g++)")
        is_compiled = False
    return _Accelerated(layers, graph if is_compiled else None, device, dtype)


class _Accelerated:
    """The layers, loaded or compiled when the first batch comes."""

    def __init__(
        self, layers: Callable[[], nn.Module], graph: "_Graph | None", device: str, dtype: torch.dtype
    ) -> None:
        self._layers = layers
        self._graph = graph
        self._device = device
        self._dtype = dtype
        self._run: Callable[[Tensor], Tensor] | None = None

    @torch.inference_mode()
    def __call__(self, inputs_N: Tensor) -> Tensor:
        size = batch_size(inputs_N[0], self._device)
        outputs: list[Tensor] = []
        for part_N in inputs_N.split(size):
            batch_N = _filled_up(part_N, size) if self._graph else part_N
            batch_N = batch_N.to(self._device, self._dtype, memory_format=torch.channels_last)
            outputs.append(self._ready(batch_N)(batch_N)[: len(part_N)].float())
        return torch.cat(outputs)

    def _ready(self, example_N: Tensor) -> Callable[[Tensor], Tensor]:
        """Return the layers or their graph, loaded at the first call."""
        if self._run is None:
            graph = self._graph
            self._run = graph.load(self._prepared, example_N, self._device) if graph else self._prepared()
        return self._run

    def _prepared(self) -> nn.Module:
        module = fold_batch_norm(self._layers()).to(self._device, self._dtype)
        return module.to(memory_format=torch.channels_last).requires_grad_(False)


def batch_size(image: Tensor, device: str) -> int:
    """Return how many images go through the layers at a time: a power of two, so that it divides a caller's batches."""
    if device.startswith("cuda"):
        return LARGEST_BATCH["cuda"]
    return min(LARGEST_BATCH["cpu"], 1 << (max(1, CPU_VALUES // image.numel()).bit_length() - 1))


def _filled_up(part_N: Tensor, size: int) -> Tensor:
    """Return the images, with the first one repeated until there are `size`."""
    return torch.cat([part_N, part_N[:1].expand(size - len(part_N), *part_N.shape[1:])])


def fold_batch_norm(module: nn.Module) -> nn.Module:
    """Return the module, changed in place: each batch norm that follows a convolution is folded into it."""
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    names = list(module._modules)
    for name, following in itertools.pairwise(names):
        convolution = module._modules[name]
        norm = module._modules[following]
        if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            module._modules[name] = fuse_conv_bn_eval(convolution, norm)
            module._modules[following] = nn.Identity()
    for child in module.children():
        fold_batch_norm(child)
    return module


def _kind(identity: str, device: str, dtype: torch.dtype) -> str:
    """Return a key of what a compiled graph depends on: weights, arithmetic, processor, torch, threads and batch."""
    ability = torch.cuda.get_device_name(device) if device.startswith("cuda") else torch.cpu.get_capabilities()
    batch = [CPU_VALUES, LARGEST_BATCH]
    facts = [identity, torch.__version__, ability, torch.get_num_threads(), str(dtype), batch]
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _has_compiler(device: str) -> bool:
    return device.startswith("cuda") or bool(shutil.which("g++") or shutil.which("clang++"))


@dataclass(frozen=True)
class _Graph:
    """A compiled graph in the cache, with a count of the images that went through its layers."""

    cache: CacheFolder
    kind: str

    @property
    def file(self) -> Path:
        return self.cache.compiled_graph(self.kind)

    @property
    def is_made(self) -> bool:
        return self.file.exists()

    def repays(self, n_images: int) -> bool:
        """Add the expected images to the count; return whether a graph for them saves more time than it costs."""
        count = self.cache.image_count(self.kind)
        n_before = files.read_json(count)["images"] if count.exists() else 0
        files.write_json(count, {"images": n_before + n_images})
        return self.is_made or n_before + n_images >= REPAYS

    def load(self, layers: Callable[[], nn.Module], example: Tensor, device: str) -> Callable[[Tensor], Tensor]:
        """Return the graph; if it is not cached, compile the layers for inputs like the example."""
        if self.is_made:
            try:
                return self._open(device)
            except RuntimeError as error:
                log.warning("the compiled graph %s is damaged (%s) and is compiled again", self.file, error)
        self._make(layers(), example)
        return self._open(device)

    def _open(self, device: str) -> Callable[[Tensor], Tensor]:
        index = torch.device(device).index if device.startswith("cuda") else -1
        # what torch._inductor.aoti_load_package does, without the seconds that importing the compiler takes
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
            made = temporary.with_suffix(".pt2")  # torch requires this suffix
            torch._inductor.aoti_compile_and_package(
                exported, package_path=str(made), inductor_configs={"freezing": True}
            )
            made.rename(temporary)
        shutil.rmtree(self.cache.compiler, ignore_errors=True)
        log.info("compiled in %.0f s", time.monotonic() - started)


def compiled_graphs(cache: Path) -> tuple[str, ...]:
    """Return the names of the compiled graphs in the cache.

    A predictor that was loaded before a graph was compiled may round differently from one that was loaded after.
    """
    return tuple(path.name for path in CacheFolder(cache).compiled_graphs())
