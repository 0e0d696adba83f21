"""Scoring originals, from disk to table: ours, common alternatives, and the forward pass alone (the limit).

    python -m benchmarks.scoring --data originals.zip

The images are repeated until there are `--images` of them, each copy with different bytes. The model is a ResNet-50
with random weights whose head was trained on the images, so five folds share one trunk. A scoring run beforehand
compiles the graph, as earlier nights would have. Whole processes are timed from start to end; figures are medians of
paired rounds. The trunk in 8-bit integers is timed by itself: packaging decides whether a model may score with it.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torchvision

from benchmarks.processes import run_measured
from benchmarks.results import keep
from cxr.config import Execution, ScoreConfig, TrainConfig
from cxr.dataset.examination import examine
from cxr.dataset.listing.layout import list_images
from cxr.evaluation.tables import evaluate
from cxr.export.build import make_package
from cxr.images.inbox import Arrival
from cxr.images.source import open_source
from cxr.network.int8 import load_int8, quantise
from cxr.serving import registry
from cxr.serving.ensemble import layers_of
from cxr.serving.scoring.scorer import Scorer, score_chunk, scorer_of
from cxr.serving.scoring.scoring_runs import CHUNK, chunks, open_scoring_run
from cxr.serving.screening import read_image
from cxr.storage.model_folder import ModelFolder
from cxr.storage.run_folder import RunFolder
from cxr.training.beginning import begin_run
from cxr.training.trainer import train_fold

CXR = str(Path(sys.executable).with_name("cxr"))


def main() -> None:
    """Time every variant, print the ratios, keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--images", type=int, default=1200)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        _make_model(arguments.data, home)
        for name, n_images in (("inbox", arguments.images), ("inbox5", 5 * arguments.images), ("few", 64), ("none", 0)):
            _fill(home / name / "ward", arguments.data, n_images)
        score_as_process(home, "few", "warm-up", arguments.device, "--compile=on")
        keep("scoring", _measure(home, arguments.images, arguments.repeats, arguments.device))


def _make_model(data: str, home: Path) -> None:
    torch.manual_seed(0)
    torch.save(torchvision.models.resnet50().state_dict(), home / "resnet50.pth")
    config = TrainConfig(data=data, weights=str(home / "resnet50.pth"), epochs=3, learning_rate=1e-4)
    folder = RunFolder(home / "run")
    examine(config, folder, cache=home / "cache", size=config.size)
    run = begin_run(config, folder, Execution(cache=home / "cache", devices="cpu"))
    for fold in range(config.folds):
        train_fold(run, fold, "cpu")
    evaluate(run)
    model = ModelFolder.named(home / "models", "model")
    registry.promote(model, make_package(run, model).version)


def _fill(folder: Path, data: str, n_images: int) -> None:
    """Write the originals again and again; bytes after the end of the image make each copy a different file."""
    folder.mkdir(parents=True)
    source = open_source(data)
    images = [source.read(image.key) for image in list_images(source).images]
    for number in range(n_images):
        (folder / f"{number:06d}.jpeg").write_bytes(images[number % len(images)] + b"%d" % number)


def _measure(home: Path, n_images: int, repeats: int, device: str) -> dict[str, object]:
    ours: dict[str, list[float]] = {"rate": [], "limit": [], "int8": [], "ward": [], "start": []}
    peers: dict[str, list[float]] = {"plain": [], "tuned": [], "lightning": []}
    memory = {}
    for repeat in range(repeats):
        for figure, value in zip(("rate", "limit", "int8"), _rates(home, repeat, device), strict=True):
            ours[figure].append(value)
        seconds, memory[n_images] = score_as_process(home, "inbox", f"scores{repeat}", device)
        ours["ward"].append(seconds)
        ours["start"].append(score_as_process(home, "none", "nothing", device)[0])
        for peer, times in peers.items():
            arguments = ["-m", "benchmarks.peers", peer, str(home / "inbox"), str(home / "peer.csv")]
            times.append(timed_process([sys.executable, *arguments])[0])
        print({name: round(times[-1], 1) for name, times in (ours | peers).items()}, flush=True)
    long_scoring_run, memory[5 * n_images] = score_as_process(home, "inbox5", "five", device)
    scoring_run = statistics.median(ours["ward"])
    figures: dict[str, object] = {
        "images": n_images,
        "first image opened to table closed, images/s": round(statistics.median(ours["rate"]), 1),
        "forward pass alone, compiled (limit), images/s": round(statistics.median(ours["limit"]), 1),
        "scoring / limit": _ratio(ours["rate"], ours["limit"]),
        "forward pass alone in 8-bit integers, images/s": round(statistics.median(ours["int8"]), 1),
        "8-bit integers / limit": _ratio(ours["int8"], ours["limit"]),
        "a scoring run as a whole process, s": round(scoring_run, 1),
        "a scoring run with nothing new (start-up), s": round(statistics.median(ours["start"]), 1),
        f"a scoring run of {5 * n_images} images as a whole process, images/s": round(
            5 * n_images / long_scoring_run, 1
        ),
    }
    for peer, times in peers.items():
        figures[f"{peer} peer as a whole process, s"] = round(statistics.median(times), 1)
        figures[f"{peer} peer / a scoring run"] = _ratio(times, ours["ward"])
    for n, gib in memory.items():
        figures[f"peak memory with {n} images, GiB"] = round(gib, 2)
    return figures


def _ratio(numerators: list[float], denominators: list[float]) -> float:
    return round(statistics.median(a / b for a, b in zip(numerators, denominators, strict=True)), 2)


def _rates(home: Path, repeat: int, device: str) -> tuple[float, float, float]:
    """Return images per second of scoring, of the forward pass alone, and of the same in 8-bit integers on the CPU."""
    config = ScoreConfig(
        name="model", out=home / f"inner{repeat}", models=home / "models", cache=home / "cache", settle=0, device=device
    )
    scoring_run, (batch,) = open_scoring_run(home / "inbox", config)
    scorer = scorer_of(scoring_run)
    squares = _squares(scorer, batch.arrivals[:CHUNK])
    ensemble = scorer.predictor.ensemble
    ensemble.run(squares[:64])
    limit = len(squares) / _timed(lambda: ensemble.run(squares))

    def whole() -> None:
        for chunk in chunks(batch):
            score_chunk(scoring_run, batch.name, chunk)

    graph, package = home / "int8.onnx", scorer.package
    inputs = package.networks.preprocessing().inputs(torch.from_numpy(squares))
    if not graph.exists():
        quantise(layers_of(package.networks, "shared", 0), inputs[:64], graph, first_in_float=True)
    run = load_int8(graph)
    run(inputs[:64])
    int8 = len(inputs) / _timed(lambda: run(inputs))
    return len(batch.arrivals) / _timed(whole), limit, int8


def _squares(scorer: Scorer, arrivals: list[Arrival]) -> np.ndarray:
    readings = (read_image(arrival, scorer.package.size) for arrival in arrivals)
    return np.stack([reading.square for reading in readings if reading.square is not None])


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def score_as_process(home: Path, inbox: str, out: str, device: str, *more: str) -> tuple[float, float]:
    """Score an inbox with the champion of `model`, all under `home`; return the seconds and the peak memory in GiB."""
    folders = [f"--models={home / 'models'}", f"--cache={home / 'cache'}", f"--out={home / out}"]
    arguments = ["score", str(home / inbox), "--name=model", "--settle=0", f"--device={device}", *folders, *more]
    return timed_process([CXR, *arguments])


def timed_process(command: list[str]) -> tuple[float, float]:
    """Return the seconds and the peak memory in GiB of a process."""
    ended = run_measured(command)
    if ended.code not in (0, 1):  # 1: a batch of copies of a few images may be held
        raise RuntimeError(ended.output)
    return ended.seconds, ended.peak_gib


if __name__ == "__main__":
    main()
