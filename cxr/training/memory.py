"""Running out of memory, on a GPU or on a CPU, as one error."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from cxr.errors import RunError


def is_out_of_memory(error: Exception) -> bool:
    """Tell whether an error is a GPU's, Python's, torch's or oneDNN's way of saying that memory is too small.

    The last of torch's is about a checkpoint, which is written into memory first.
    """
    said = ("can't allocate memory", "could not create a primitive", "bad_alloc", "inline_container.cc")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(words in str(error) for words in said)


@contextmanager
def out_of_memory_as_run_error(fold: int, device: str) -> Iterator[None]:
    """Turn what is left of running out of memory into one sentence."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise RunError(
            f"fold {fold} ran out of memory on {device}, even with batches in parts: free some, or let fewer folds "
            "run at a time (--folds-per-device 1); what was trained is kept."
        ) from error
