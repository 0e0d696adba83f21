"""Ways to 8-bit integers: how far each moves a run's networks, and whether it would be accepted; or how fast they run.

    python -m benchmarks.int8 --run experiments/real64
    python -m benchmarks.int8 --run experiments/real64 --rates

For each way, the layers of every fold are quantised on its training images and predict its held-out images, as `cxr
package --int8` does, and are judged against float32 in the same way. All layers have to be trained: a package holds
frozen ones once for all folds. With `--rates`, which needs an idle machine, ONNX Runtime and OpenVINO run graphs of
fold 0 in turn; bfloat16 is what scoring takes without `--int8`.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from benchmarks.int8_ways import WAYS, FoldInIntegers, Way
from benchmarks.results import keep
from cxr.evaluation.on_request.noninferiority import judge
from cxr.evaluation.out_of_fold import OutOfFold
from cxr.metrics.link import probabilities
from cxr.network.acceleration import accelerate, batch_size
from cxr.network.int8 import load_int8
from cxr.storage import verified
from cxr.storage.run_folder import RunFolder
from cxr.training.predictions import load_network
from cxr.training.run import Run, load_run

REPEATS = 3
Forward = Callable[[Tensor], Tensor]


def main() -> None:
    """Judge every way, or time them; print and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--rates", action="store_true", help="time them instead of judging them")
    arguments = parser.parse_args()
    run = load_run(RunFolder(arguments.run.resolve()))
    if run.config.trainable != "all":
        parser.error("--run has frozen layers, which a package holds once for all folds: type `cxr package RUN --int8`")
    exact = OutOfFold(verified.read_table(run.folder.predictions), run.classes)
    about = {"trainable": run.config.trainable, "size": run.config.size, "images": len(exact.predictions)}
    with tempfile.TemporaryDirectory() as scratch:
        if arguments.rates:
            rates = _rates(run, exact, arguments.ways, Path(scratch))
            keep(f"int8_rates_{run.folder.run_id}", about | rates)
        for figures in () if arguments.rates else _judged(run, exact, arguments.ways, Path(scratch)):
            keep(f"int8_{run.folder.run_id}", about | figures)  # after each way, as all of them take long


def _judged(run: Run, exact: OutOfFold, ways: list[str], scratch: Path) -> Iterator[dict[str, Any]]:
    """Yield the figures of the first way, then of the first two, and so on."""
    folds = [FoldInIntegers(run, exact.predictions, fold, scratch) for fold in range(run.config.folds)]
    figures: dict[str, Any] = {}
    for name in ways:
        figures[name] = _figures(folds, exact, WAYS[name], scratch / "way.onnx")
        yield figures


def _figures(folds: list[FoldInIntegers], exact: OutOfFold, way: Way, path: Path) -> dict[str, Any]:
    """Return what a way does to the networks of all folds, each judged on the images that it never saw."""
    logits = np.empty_like(exact.logits)
    for fold in folds:
        fold.quantiser.quantise(way, path)
        logits[fold.is_held_out] = fold.quantiser.logits(load_int8(path), fold.held_out()).numpy()
    columns = dict(zip(exact.classes.logit_columns, logits.T, strict=True))
    probability = probabilities(logits, exact.classes.link)
    columns |= dict(zip(exact.classes.probability_columns, probability.T, strict=True))
    judged = judge(exact, OutOfFold(exact.predictions.assign(**columns), exact.classes))
    bounds = judged.groupby("metric")["lower_bound"].min()
    difference = np.diff(logits, axis=1) - np.diff(exact.logits, axis=1)
    figures = {f"{metric}, lower bound": value for metric, value in bounds.items()}
    figures |= {
        "sd of the logits' change": difference.std(),
        "mean of the logits' change": difference.mean(),
        "probabilities that move by 0.01": (np.abs(probability - exact.probability).max(axis=1) > 0.01).mean(),
        "calls changed at most": judged["share_changed"].max(),
    }
    return {name: round(float(value), 4) for name, value in figures.items()} | {"accepted": bool(judged["holds"].all())}


def _rates(run: Run, exact: OutOfFold, ways: list[str], scratch: Path) -> dict[str, float]:
    """Return how many images per second go through fold 0's layers: medians of rounds in turn, all cores."""
    fold = FoldInIntegers(run, exact.predictions, 0, scratch)
    layers = load_network(run, 0).eval().stages("head")[0]
    inputs = fold.held_out()
    forwards: dict[str, Forward] = {
        "bfloat16, compiled": accelerate(
            lambda: layers, "benchmark", "cpu", bf16=True, n_images=10**6, compile="on", cache=scratch
        )
    }
    for number, name in enumerate(ways):
        path = scratch / f"{number}.onnx"
        fold.quantiser.quantise(WAYS[name], path)
        forwards[f"OpenVINO, {name}"] = load_int8(path)
    forwards[f"ONNX Runtime, {ways[0]}"] = _onnx_runtime(scratch / "0.onnx")
    seconds: dict[str, list[float]] = {name: [] for name in forwards}
    for forward in forwards.values():
        forward(inputs[:128])
    for _ in range(REPEATS):
        for name, forward in forwards.items():
            start = time.perf_counter()
            forward(inputs)
            seconds[name].append(time.perf_counter() - start)
    return {f"{name}, images/s": round(len(inputs) / statistics.median(taken)) for name, taken in seconds.items()}


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
