"""Scoring originals, from disk to table: ours, common alternatives, and the forward pass alone (the limit).

    python -m benchmarks.scoring --data originals.zip
    python -m benchmarks.scoring --data originals.zip --run experiments/standard64
    python -m benchmarks.scoring --data originals.zip --steps

The images are repeated until there are `--images` of them, each copy with different bytes. The model is a ResNet-50
with random weights whose head was trained on the images, so five folds share one trunk. A scoring run beforehand
compiles the graph, as earlier nights would have. Whole processes are timed from start to end; figures are medians of
paired rounds. With `--run` the model is a finished run's, and scores in 8-bit integers too if they are accepted; the
table of the run that says so is written anew. With `--steps` the milliseconds of an image on one core are all that is
measured.
"""

import argparse
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
import torchvision

from benchmarks.processes import run_measured
from benchmarks.results import keep
from benchmarks.scoring_steps import stages, steps, use_one_core
from cxr.config import Execution, ScoreConfig, TrainConfig
from cxr.dataset.examination import examine
from cxr.dataset.listing.layout import list_images
from cxr.errors import PackageError
from cxr.evaluation.tables import evaluate
from cxr.export.build import make_package
from cxr.images.inbox import Arrival
from cxr.images.source import open_source
from cxr.serving import registry
from cxr.serving.scoring.scorer import Scorer, score_chunk, scorer_of
from cxr.serving.scoring.scoring_runs import CHUNK, chunks, open_scoring_run
from cxr.serving.screening import read_image
from cxr.storage.model_folder import ModelFolder
from cxr.storage.run_folder import RunFolder
from cxr.training.beginning import begin_run
from cxr.training.run import Run, load_run
from cxr.training.trainer import train_fold

PEERS = ("plain", "tuned", "lightning")
CXR = str(Path(sys.executable).with_name("cxr"))


def main() -> None:
    """Time every variant, print the ratios, keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--run", type=Path, help="a finished run, whose networks score in place of random ones")
    parser.add_argument("--images", type=int, default=1200)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--steps", action="store_true", help="measure where the milliseconds go, on one core")
    arguments = parser.parse_args()
    if arguments.steps:
        use_one_core()
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        models = _package(arguments.run, home) if arguments.run else _make_model(arguments.data, home)
        for name, n_images in (("inbox", arguments.images), ("inbox5", 5 * arguments.images), ("few", 64), ("none", 0)):
            _fill(home / name / "ward", arguments.data, n_images)
        for model in models:
            score_as_process(home, "few", f"warm-up-{model}", arguments.device, "--compile=on", model=model)
        suffix = f"_{arguments.run.resolve().name}" if arguments.run else ""
        if arguments.steps:
            keep(f"scoring_steps{suffix}", _measure_steps(home, models, arguments.images))
        else:
            keep(f"scoring{suffix}", _measure(home, models, arguments.images, arguments.repeats, arguments.device))


def _package(folder: Path, home: Path) -> list[str]:
    """Package a run as `model`, and as `int8` if its 8-bit integers are accepted; return the names."""
    run = load_run(RunFolder(folder.resolve()))
    _promote(run, home, "model")
    try:
        _promote(run, home, "int8", int8=True)
    except PackageError as refusal:
        print(refusal, flush=True)
        return ["model"]
    return ["model", "int8"]


def _promote(run: Run, home: Path, name: str, *, int8: bool = False) -> None:
    model = ModelFolder.named(home / "models", name)
    registry.promote(model, make_package(run, model, int8=int8).version)


def _make_model(data: str, home: Path) -> list[str]:
    """Train the head of random networks and package them as `model`; return its name."""
    torch.manual_seed(0)
    torch.save(torchvision.models.resnet50().state_dict(), home / "resnet50.pth")
    config = TrainConfig(data=data, weights=str(home / "resnet50.pth"), epochs=3, learning_rate=1e-4)
    folder = RunFolder(home / "run")
    examine(config, folder, cache=home / "cache", size=config.size)
    run = begin_run(config, folder, Execution(cache=home / "cache", devices="cpu"))
    for fold in range(config.folds):
        train_fold(run, fold, "cpu")
    evaluate(run)
    _promote(run, home, "model")
    return ["model"]


def _fill(folder: Path, data: str, n_images: int) -> None:
    """Write the originals again and again; bytes after the end of the image make each copy a different file."""
    folder.mkdir(parents=True)
    source = open_source(data)
    images = [source.read(image.key) for image in list_images(source).images]
    for number in range(n_images):
        (folder / f"{number:06d}.jpeg").write_bytes(images[number % len(images)] + b"%d" % number)


def _measure_steps(home: Path, models: list[str], n_images: int) -> dict[str, object]:
    """Return the milliseconds an image on one core: of a whole process by stages, and of the stage `score` by steps."""
    figures: dict[str, object] = {"images": n_images}
    for model in models:
        out = home / f"whole-{model}"
        seconds, _ = score_as_process(home, "inbox", out.name, "cpu", model=model)
        ms = {"whole process": 1000 * seconds / n_images} | stages(out, seconds, n_images)
        figures |= {f"{_arithmetic(model)}{name}, ms": round(value, 3) for name, value in ms.items()}
        by_step = steps(home / "inbox", _config(home, model, f"steps-{model}", "cpu"))
        figures |= {
            f"{_arithmetic(model)}{name}, ms, ms of CPU": value.round(3).tolist() for name, value in by_step.items()
        }
    return figures


def _arithmetic(model: str) -> str:
    """Return how the figures of a model begin: those of the usual arithmetic have no mark."""
    return "8-bit integers: " if model == "int8" else ""


def _measure(home: Path, models: list[str], n_images: int, repeats: int, device: str) -> dict[str, object]:
    rounds = [_round(home, models, number, n_images, device) for number in range(repeats)]
    figures: dict[str, object] = {"images": n_images}
    figures["a scoring run with nothing new (start-up), s"] = _median(rounds, "nothing")
    for model in models:
        mark = _arithmetic(model)
        seconds, gib = score_as_process(home, "inbox5", f"five-{model}", device, model=model)
        figures |= {
            f"{mark}first image opened to table closed, images/s": _median(rounds, f"{model} rate"),
            f"{mark}forward pass alone (limit), images/s": _median(rounds, f"{model} limit"),
            f"{mark}reading alone, images/s": _median(rounds, f"{model} reading"),
            f"{mark}scoring / limit": _ratio(rounds, f"{model} rate", f"{model} limit"),
            f"{mark}scoring, reading taken off / limit": _ratio(rounds, f"{model} rate but reading", f"{model} limit"),
            f"{mark}a scoring run as a whole process, s": _median(rounds, f"{model} process"),
            f"{mark}a scoring run of {5 * n_images} images as a whole process, images/s": round(
                5 * n_images / seconds, 1
            ),
            f"{mark}peak memory with {n_images} images, GiB": round(max(each[f"{model} GiB"] for each in rounds), 2),
            f"{mark}peak memory with {5 * n_images} images, GiB": round(gib, 2),
        }
    if "int8" in models:
        figures["a scoring run / the same in 8-bit integers"] = _ratio(rounds, "model process", "int8 process")
    for peer in PEERS:
        figures[f"{peer} peer as a whole process, s"] = _median(rounds, peer)
        for model in models:
            figures[f"{_arithmetic(model)}{peer} peer / a scoring run"] = _ratio(rounds, peer, f"{model} process")
    return figures


def _round(home: Path, models: list[str], number: int, n_images: int, device: str) -> dict[str, float]:
    """Return the seconds and rates of one round, in which everything is timed once."""
    figures: dict[str, float] = {}
    for model in models:
        rates = _rates(home, model, number, device)
        seconds, gib = score_as_process(home, "inbox", f"scores-{model}-{number}", device, model=model)
        rates["rate but reading"] = _without(rates["reading"], rates["rate"])
        figures |= {f"{model} {name}": value for name, value in rates.items()}
        figures |= {f"{model} process": seconds, f"{model} GiB": gib}
    figures["nothing"] = score_as_process(home, "none", "nothing", device)[0]
    for peer in PEERS:
        arguments = ["-m", "benchmarks.peers", peer, str(home / "inbox"), str(home / "peer.csv")]
        figures[peer] = timed_process([sys.executable, *arguments])[0]
    print({name: round(value, 2) for name, value in figures.items()}, flush=True)
    return figures


def _without(part: float, whole: float) -> float:
    """Return the rate of the rest of some work, given the rates of a part and of the whole, on the same cores.

    NaN where the part alone is not the faster of the two: then the two overlap, and no rest can be told apart.
    """
    return 1 / (1 / whole - 1 / part) if part > whole else math.nan


def _median(rounds: list[dict[str, float]], name: str) -> float:
    return round(statistics.median(figures[name] for figures in rounds), 1)


def _ratio(rounds: list[dict[str, float]], numerator: str, denominator: str) -> float | None:
    ratios = [figures[numerator] / figures[denominator] for figures in rounds]
    return None if any(map(math.isnan, ratios)) else round(statistics.median(ratios), 2)


def _config(home: Path, model: str, out: str, device: str) -> ScoreConfig:
    return ScoreConfig(
        name=model, out=home / out, models=home / "models", cache=home / "cache", settle=0, device=device
    )


def _rates(home: Path, model: str, number: int, device: str) -> dict[str, float]:
    """Return images per second of scoring, of reading alone, and of the forward pass alone (the limit)."""
    scoring_run, (batch,) = open_scoring_run(home / "inbox", _config(home, model, f"inner-{model}-{number}", device))
    scorer = scorer_of(scoring_run)
    first = batch.arrivals[:CHUNK]
    start = time.perf_counter()
    squares = _squares(scorer, first)
    reading = len(first) / (time.perf_counter() - start)
    ensemble = scorer.predictor.ensemble
    ensemble.run(squares[:64])
    limit = len(squares) / _timed(lambda: ensemble.run(squares))

    def whole() -> None:
        for chunk in chunks(batch):
            score_chunk(scoring_run, batch.name, chunk)

    return {"rate": len(batch.arrivals) / _timed(whole), "reading": reading, "limit": limit}


def _squares(scorer: Scorer, arrivals: list[Arrival]) -> np.ndarray:
    """Return the squares of images, which all cores read."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        readings = list(pool.map(lambda arrival: read_image(arrival, scorer.package.size), arrivals, chunksize=8))
    return np.stack([reading.square for reading in readings if reading.square is not None])


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def score_as_process(
    home: Path, inbox: str, out: str, device: str, *more: str, model: str = "model"
) -> tuple[float, float]:
    """Score an inbox with the champion of a model, all under `home`; return the seconds and the peak memory in GiB."""
    folders = [f"--models={home / 'models'}", f"--cache={home / 'cache'}", f"--out={home / out}"]
    arguments = ["score", str(home / inbox), f"--name={model}", "--settle=0", f"--device={device}", *folders, *more]
    return timed_process([CXR, *arguments], codes=(0, 1))  # 1: a batch of copies of a few images may be held


def timed_process(command: list[str], codes: tuple[int, ...] = (0,)) -> tuple[float, float]:
    """Return the seconds and the peak memory in GiB of a process; raise RuntimeError if it ends with another code."""
    ended = run_measured(command)
    if ended.code not in codes:
        raise RuntimeError(ended.output)
    return ended.seconds, ended.peak_gib


if __name__ == "__main__":
    main()
