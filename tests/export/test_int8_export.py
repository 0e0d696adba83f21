from pathlib import Path

import pytest
import torch

from cxr.errors import ConfigError
from cxr.export.build import make_package
from cxr.export.int8_export import require_int8
from cxr.network import onnx_graph
from cxr.storage.model_folder import ModelFolder
from cxr.training.run import Run


def test_a_processor_without_the_instructions_is_reported_before_anything_is_written(
    head: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
    model = ModelFolder.named(tmp_path / "models", "tiny")
    with pytest.raises(ConfigError, match="--int8 is not available: this processor has none of avx512_vnni"):
        make_package(head, model, int8=True)
    assert not model.path.exists()


def test_missing_onnx_packages_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_graph.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"--int8 needs onnx and onnxscript: install cxr with the extra \[onnx\]"):
        require_int8()
