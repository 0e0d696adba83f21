"""Out of memory, on a GPU or a CPU, as one error."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from cxr.errors import RunError


def is_out_of_memory(error: Exception) -> bool:
    """Return whether an error means that memory ran out, as CUDA, Python, torch or oneDNN report it.

    `inline_container.cc` is torch failing to write a checkpoint, which goes to memory first.
    """
    phrases = ("can't allocate memory", "could not create a primitive", "bad_alloc", "inline_container.cc")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(phrase in str(error) for phrase in phrases)


@contextmanager
def out_of_memory_as_run_error(fold: int, device: str) -> Iterator[None]:
    """Raise RunError in place of an out-of-memory error, which remains where even single images do not fit."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise RunError(
            f"fold {fold} ran out of memory on {device}, even with batches in parts: free some, or train fewer folds "
            "at a time (--folds-per-device 1); the epochs trained so far are kept."
        ) from error
