"""Ways to 8-bit integers: how far each moves a run's networks, whether it would be accepted, and how fast it runs.

    python -m benchmarks.int8 --run experiments/real64

For each way, the layers of every fold are quantised on its training images and predict its held-out images, as `cxr
package --int8` does, and are judged against float32 in the same way. ONNX Runtime and OpenVINO run the same graphs of
fold 0 in turn; bfloat16 is what scoring takes without `--int8`.
"""

import argparse
import io
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
import torch
from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor, nn

from benchmarks.results import keep
from cxr.evaluation.on_request.noninferiority import judge
from cxr.evaluation.out_of_fold import OutOfFold
from cxr.export.int8.layers import N_CALIBRATION
from cxr.export.rounding import evenly_spread
from cxr.metrics.link import probabilities
from cxr.network.acceleration import accelerate, batch_size, fold_batch_norm
from cxr.network.int8 import PERCENTILE, calibration_images, convolutions_of, load_int8
from cxr.network.onnx_graph import write_graph
from cxr.network.resnet import BATCH_SIZE, Classifier
from cxr.storage import verified
from cxr.storage.run_folder import RunFolder
from cxr.training.predictions import load_network
from cxr.training.run import Run, load_run

REPEATS = 3
Forward = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Way:
    """A way to 8-bit integers."""

    ranges: CalibrationMethod = CalibrationMethod.Percentile
    n_images: int = N_CALIBRATION
    """That the ranges are taken from."""
    n_in_float: int = 1
    """How many of the first convolutions stay in float32."""


WAYS: Mapping[str, Way] = {
    "percentile (as packaged)": Way(),
    "percentile, 1,024 images": Way(n_images=1024),
    "percentile, first convolution in integers": Way(n_in_float=0),
    "smallest and largest value": Way(CalibrationMethod.MinMax),
    "smallest and largest value, first convolution in integers": Way(CalibrationMethod.MinMax, n_in_float=0),
    "entropy": Way(CalibrationMethod.Entropy),
    "percentile, first stage in float32": Way(n_in_float=11),
}


def main() -> None:
    """Try every way, print and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    arguments = parser.parse_args()
    run = load_run(RunFolder(arguments.run.resolve()))
    exact = OutOfFold(verified.read_table(run.folder.predictions), run.classes)
    with tempfile.TemporaryDirectory() as scratch:
        ways = {name: _figures(run, exact, WAYS[name], Path(scratch)) for name in arguments.ways}
        rates = _rates(run, exact, Path(scratch))
    about = {"trainable": run.config.trainable, "size": run.config.size, "images": len(exact.predictions)}
    keep("int8", about | ways | {"images per s, fold 0": rates})


def _figures(run: Run, exact: OutOfFold, way: Way, scratch: Path) -> dict[str, Any]:
    """Return what a way does to the networks of all folds, each judged on the images that it never saw."""
    logits = np.empty_like(exact.logits)
    for fold in range(run.config.folds):
        held_out = exact.fold == fold
        inputs, head = _quantise(run, exact, fold, way, scratch / "way.onnx")
        with torch.inference_mode():
            logits[held_out] = head(load_int8(scratch / "way.onnx")(inputs)).double().numpy()
    columns = dict(zip(run.classes.logit_columns, logits.T, strict=True))
    probability = probabilities(logits, run.classes.link)
    columns |= dict(zip(run.classes.probability_columns, probability.T, strict=True))
    judged = judge(exact, OutOfFold(exact.predictions.assign(**columns), run.classes))
    bounds = judged.groupby("metric")["lower_bound"].min()
    difference = np.diff(logits, axis=1) - np.diff(exact.logits, axis=1)
    figures = {f"{metric}, lower bound": value for metric, value in bounds.items()}
    figures |= {
        "sd of the logits' change": difference.std(),
        "probabilities that move by 0.01": (np.abs(probability - exact.probability).max(axis=1) > 0.01).mean(),
        "calls changed at most": judged["share_changed"].max(),
    }
    return {name: round(float(value), 4) for name, value in figures.items()} | {"accepted": bool(judged["holds"].all())}


def _quantise(run: Run, exact: OutOfFold, fold: int, way: Way, path: Path) -> tuple[Tensor, nn.Module]:
    """Write a fold's layers but the last in 8-bit integers; return its held-out images, and the last layer."""
    model = load_network(run, fold).eval()
    layers, head = model.stages("head")
    images = exact.predictions
    training = evenly_spread(images[images["fold"] != fold], way.n_images)
    plain = path.with_name("plain.onnx")
    example = _inputs(run, model, training.head(2))
    write_graph(fold_batch_norm(layers), example, path.with_name("exact.onnx"), inputs="x", outputs="y")
    quant_pre_process(path.with_name("exact.onnx"), plain, skip_symbolic_shape=True)
    with redirect_stdout(io.StringIO()):
        quantize_static(
            plain,
            path,
            calibration_images(_inputs(run, model, training)),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=way.ranges,
            nodes_to_exclude=convolutions_of(plain)[: way.n_in_float],
            extra_options={"CalibPercentile": PERCENTILE, "CalibStridedMinMax": 1},
        )
    return _inputs(run, model, images[images["fold"] == fold]), head


@torch.inference_mode()
def _inputs(run: Run, model: Classifier, images: pd.DataFrame) -> Tensor:
    parts = torch.from_numpy(run.squares(images)).split(BATCH_SIZE)
    return torch.cat([model.preprocessing.inputs(part) for part in parts])


def _rates(run: Run, exact: OutOfFold, scratch: Path) -> dict[str, float]:
    """Return how many images per second go through fold 0's layers: medians of rounds in turn, all cores."""
    path = scratch / "way.onnx"
    inputs, _ = _quantise(run, exact, 0, Way(), path)
    first_in_float = scratch / "first.onnx"
    _quantise(run, exact, 0, WAYS["percentile, first stage in float32"], first_in_float)
    layers = load_network(run, 0).eval().stages("head")[0]
    runtimes: dict[str, Forward] = {
        "OpenVINO": load_int8(path),
        "ONNX Runtime": _onnx_runtime(path),
        "OpenVINO, first stage in float32": load_int8(first_in_float),
        "bfloat16, compiled": accelerate(
            lambda: layers, "benchmark", "cpu", bf16=True, n_images=10**6, compile="on", cache=scratch
        ),
    }
    seconds: dict[str, list[float]] = {name: [] for name in runtimes}
    for forward in runtimes.values():
        forward(inputs[:128])
    for _ in range(REPEATS):
        for name, forward in runtimes.items():
            start = time.perf_counter()
            forward(inputs)
            seconds[name].append(time.perf_counter() - start)
    return {name: round(len(inputs) / statistics.median(taken)) for name, taken in seconds.items()}


def _onnx_runtime(path: Path) -> Forward:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def forward(inputs: Tensor) -> Tensor:
        parts = inputs.split(batch_size(inputs[0], "cpu"))
        return torch.cat([torch.from_numpy(session.run(["y"], {"x": part.numpy()})[0]) for part in parts])

    return forward


if __name__ == "__main__":
    main()
