"""Writes layers as an ONNX graph. Needs the extra `cxr[onnx]`."""

import importlib.util
import logging
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from cxr.errors import ConfigError
from cxr.storage import files


def require_onnx(option: str) -> None:
    """Raise ConfigError if the packages that write graphs for an option are missing."""
    if any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxscript")):
        raise ConfigError(f"{option} needs onnx and onnxscript: install cxr with the extra [onnx].")


def write_graph(layers: nn.Module, example_N: Tensor, path: Path, *, inputs: str, outputs: str) -> None:
    """Write layers as a graph with the weights inside, for any number of images.

    Args:
        layers: in evaluation mode.
        example_N: an input of two images or more.
        path: the file to write.
        inputs: name of the graph's input.
        outputs: name of its output.
    """
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with torch.no_grad(), warnings.catch_warnings(), files.replacing(path) as temporary:
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        program = torch.onnx.export(
            layers,
            (example_N,),
            dynamo=True,
            verbose=False,
            input_names=[inputs],
            output_names=[outputs],
            dynamic_shapes=({0: torch.export.Dim("n", min=1)},),
        )
        if program is None:
            raise RuntimeError("torch.onnx.export returned no program")
        ClearMetadataAndDocStringPass()(program.model)  # torch's stack traces, which name paths of this machine
        program.save(str(temporary), external_data=False)
