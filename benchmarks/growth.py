"""Growth: how time and memory grow with 1, 2, 4 and 8 times as many images, and with which exponent.

    python -m benchmarks.growth --data chest_xray.zip --images 700

Three steps, each in a process of its own: preparing (reading and checking the images, assigning folds), five folds of
a head on a frozen trunk with random weights, and scoring the same images as one batch. The exponent is the slope of
log seconds over log images, without start-up; 1 is linear.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torchvision

from benchmarks.results import keep
from benchmarks.scoring import score_as_process, timed_process
from cxr.config import Execution, TrainConfig
from cxr.dataset.examination import examine
from cxr.dataset.listing.layout import list_images
from cxr.evaluation.tables import evaluate
from cxr.export.build import make_package
from cxr.images.source import open_source
from cxr.serving import registry
from cxr.storage.model_folder import ModelFolder
from cxr.storage.run_folder import RunFolder
from cxr.training import features
from cxr.training.beginning import begin_run
from cxr.training.run import load_run
from cxr.training.trainer import train_fold

TIMES = (1, 2, 4, 8)
SIZE = 64


def main() -> None:
    """Run every step at every size; print time, memory and exponents; keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--images", type=int, default=700)
    parser.add_argument("--step", choices=["prepare", "head"])
    parser.add_argument("--home", type=Path)
    arguments = parser.parse_args()
    if arguments.step:
        _step(arguments.step, arguments.data, arguments.home)
        return
    with tempfile.TemporaryDirectory() as scratch:
        keep("growth", _measure(arguments.data, arguments.images, Path(scratch)))


def _measure(data: str, n_images: int, scratch: Path) -> dict[str, object]:
    torch.manual_seed(0)
    torch.save(torchvision.models.resnet50().state_dict(), scratch / "resnet50.pth")
    found: dict[str, list[tuple[int, float, float]]] = {"preparing": [], "five folds of a head": [], "scoring": []}
    for times in TIMES:
        home = scratch / f"{times}"
        n = _copy(data, home / "images", n_images * times)
        (home / "resnet50.pth").symlink_to(scratch / "resnet50.pth")
        for name, step in (("preparing", "prepare"), ("five folds of a head", "head")):
            words = [sys.executable, "-m", "benchmarks.growth", f"--data={home / 'images'}", f"--step={step}"]
            _, gib = timed_process([*words, f"--home={home}"])
            found[name].append((n, float((home / f"{step}.seconds").read_text()), gib))
        _package(home)
        start_up = score_as_process(home, "none", "nothing", "cpu")[0]
        seconds, gib = score_as_process(home, "images", "scores", "cpu", "--compile=off", "--force")
        found["scoring"].append((n, seconds - start_up, gib))
    figures: dict[str, object] = {"size, px": SIZE}
    for name, rows in found.items():
        exponent = np.polyfit(np.log([n for n, _, _ in rows]), np.log([seconds for _, seconds, _ in rows]), 1)[0]
        figures[f"{name}: images, s, peak GiB"] = [(n, round(seconds, 1), round(gib, 2)) for n, seconds, gib in rows]
        figures[f"{name}: exponent"] = round(float(exponent), 2)
    return figures


def _copy(data: str, folder: Path, n_images: int) -> int:
    """Write evenly spaced images of the data into a folder; return how many."""
    source = open_source(data)
    images = list_images(source).images
    chosen = [images[k] for k in np.linspace(0, len(images) - 1, min(n_images, len(images)), dtype=int)]
    for image in chosen:
        (folder / image.path).parent.mkdir(parents=True, exist_ok=True)
        (folder / image.path).write_bytes(source.read(image.key))
    (folder.parent / "none").mkdir()
    return len(chosen)


def _step(step: str, data: str, home: Path) -> None:
    config = TrainConfig(data=data, weights=str(home / "resnet50.pth"), size=SIZE, epochs=3, learning_rate=1e-4)
    folder = RunFolder(home / "run")
    start = time.perf_counter()
    if step == "prepare":
        examine(config, folder, cache=home / "cache", size=SIZE)
    else:
        run = begin_run(config, folder, Execution(cache=home / "cache", devices="cpu", compile="off"))
        features.extract(run, "cpu")
        for fold in range(config.folds):
            train_fold(run, fold, "cpu")
        evaluate(run)
    (home / f"{step}.seconds").write_text(str(time.perf_counter() - start))


def _package(home: Path) -> None:
    model = ModelFolder.named(home / "models", "model")
    registry.promote(model, make_package(load_run(RunFolder(home / "run")), model).version)


if __name__ == "__main__":
    main()
