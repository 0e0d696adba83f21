import pytest
import torch

from cxr.errors import RunError
from cxr.training.fold.memory import is_out_of_memory, out_of_memory_as_run_error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (MemoryError(), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:75] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("could not create a primitive"), True),
        (RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
    ],
)
def test_out_of_memory_is_recognised_whoever_reports_it(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_out_of_memory_becomes_one_sentence_and_other_errors_stay() -> None:
    with (
        pytest.raises(RunError, match=r"^fold 3 ran out of memory on cuda:1, .*\(--folds-per-device 1\)"),
        out_of_memory_as_run_error(3, "cuda:1"),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(RuntimeError, match="shapes"), out_of_memory_as_run_error(3, "cuda:1"):
        raise RuntimeError("shapes cannot be multiplied")
