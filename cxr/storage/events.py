"""A run's log for machines: `events.jsonl`, one JSON object per line, one line per stage.

Every process that works for the run appends to it, each line whole, in the order in which stages end. A run that is
resumed adds to the same file. A process that is killed leaves no line for the stage it was in. Fields hold only
numbers and names: no parameters, no environment, no error messages.
"""

import json
import os
import resource
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cxr.storage import files


@dataclass
class Stage:
    """A stage in progress."""

    file: Path | None
    """Where its line goes; may be set while the stage is in progress."""
    n_images: int | None = None
    """Images processed; in training, counted once per epoch."""


@contextmanager
def stage(
    file: Path | None, name: str, *, fold: int | None = None, batch: str | None = None, device: str | None = None
) -> Iterator[Stage]:
    """Append a line when the block ends, however it ends.

    Fields: time (UTC, of the end), stage, fold, batch (of a scoring run), device, seconds, images, images_per_s,
    peak_memory_gib (of the process, since its start), peak_device_memory_gib (of a GPU), outcome (`done`, `stopped` by
    a signal, or `failed`), error (its type), host and pid. Fields that do not apply are null.

    If the stage fails before its folder exists, no line is written.
    """
    current = Stage(file)
    start = time.monotonic()
    outcome = "done"
    error = None
    try:
        yield current
    except BaseException as raised:
        outcome = "stopped" if isinstance(raised, SystemExit | KeyboardInterrupt) else "failed"
        error = type(raised).__name__
        raise
    finally:
        line = {
            "time": files.now(),
            "stage": name,
            "fold": fold,
            "batch": batch,
            "device": device,
            **_cost(time.monotonic() - start, current.n_images, device),
            "outcome": outcome,
            "error": error,
            "host": socket.gethostname(),
            "pid": os.getpid(),
        }
        if current.file is not None and (outcome == "done" or current.file.parent.is_dir()):
            files.append_line(current.file, json.dumps(line))


def _cost(seconds: float, n_images: int | None, device: str | None) -> dict[str, float | None]:
    return {
        "seconds": round(seconds, 3),
        "images": n_images,
        "images_per_s": None if n_images is None else round(n_images / max(seconds, 1e-9), 2),
        "peak_memory_gib": round(_peak_memory_bytes() / 2**30, 3),
        "peak_device_memory_gib": _peak_device_memory_gib(device),
    }


def _peak_memory_bytes() -> int:
    """Return the most memory that this process has held.

    On Linux a child's `ru_maxrss` includes the memory that its parent held; its `VmHWM` does not.
    """
    status = Path("/proc/self/status")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _peak_device_memory_gib(device: str | None) -> float | None:
    if device is None or not device.startswith("cuda"):
        return None
    import torch

    return round(torch.cuda.max_memory_allocated(device) / 2**30, 3)
