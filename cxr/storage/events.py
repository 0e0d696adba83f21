"""What a run says of itself to machines: `events.jsonl`, one JSON object a line and stage.

Lines are appended by every process that works for the run, each line whole, in the order in which stages
end; a run that is taken up again adds to them. A process that was killed leaves no line of the stage it was
in. Fields hold numbers and names alone: neither parameters, nor environment, nor the text of an error.
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
    """A stage that is under way."""

    file: Path | None
    """Where its line goes; may be found out while the stage is under way."""
    n_images: int | None = None
    """Images that went through it; through training, once for each epoch."""


@contextmanager
def stage(
    file: Path | None, name: str, *, fold: int | None = None, batch: str | None = None, device: str | None = None
) -> Iterator[Stage]:
    """Append a line when the block has ended, however it ends.

    Fields: time (UTC, of the end), stage, fold, batch (of the nightly job), device, seconds, images,
    images_per_s, peak_memory_gib (of the process, since it was started), peak_device_memory_gib (of a GPU), outcome
    (`done`, `stopped` by a signal, `failed`), error (its type), host and pid. What does not apply is null.

    A mistake that leaves no folder behind leaves no line either.
    """
    under_way, start, outcome, error = Stage(file), time.monotonic(), "done", None
    try:
        yield under_way
    except BaseException as raised:
        outcome = "stopped" if isinstance(raised, SystemExit | KeyboardInterrupt) else "failed"
        error = type(raised).__name__
        raise
    finally:
        seconds, n_images = time.monotonic() - start, under_way.n_images
        line = {
            "time": files.now(),
            "stage": name,
            "fold": fold,
            "batch": batch,
            "device": device,
            "seconds": round(seconds, 3),
            "images": n_images,
            "images_per_s": None if n_images is None else round(n_images / max(seconds, 1e-9), 2),
            "peak_memory_gib": round(_peak_memory_bytes() / 2**30, 3),
            "peak_device_memory_gib": _peak_device_memory_gib(device),
            "outcome": outcome,
            "error": error,
            "host": socket.gethostname(),
            "pid": os.getpid(),
        }
        if under_way.file is not None and (outcome == "done" or under_way.file.parent.is_dir()):
            files.append_line(under_way.file, json.dumps(line))


def _peak_memory_bytes() -> int:
    """Return the most memory that this process has held.

    Linux counts what the parent held to a child's `ru_maxrss`, not to its `VmHWM`.
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
