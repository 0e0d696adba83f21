"""Five-fold cross-validation of a head on a frozen trunk, against its limit and against a plain loop.

    python -m benchmarks.frozen_trunk --data chest_xray.zip

Ours is timed from prepared images to the folds' predictions, without Prefect and the data checks. The limit
is one forward pass over the same images: batch norm folded, bfloat16, channels-last, not compiled. The plain loop
runs every image of every fold and epoch through the frozen trunk (float32, as `torch.hub` gives it); its cost
per image and epoch is measured on a few images and multiplied. The weights are random: they cost the same.
"""

import argparse
import dataclasses
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torchvision

from benchmarks.results import keep
from cxr.config import Execution, TrainConfig
from cxr.dataset.examination import examine
from cxr.network.acceleration import accelerate
from cxr.network.resnet import Classifier, load_pretrained
from cxr.storage.run_folder import RunFolder
from cxr.training import features
from cxr.training.beginning import begin_run
from cxr.training.run import Run
from cxr.training.trainer import train_fold

EPOCHS = 10
N_IN_LOOP = 64
N_ADDED = 58


def main() -> None:
    """Time every variant, print the ratios, keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--size", type=int, default=224)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        figures = _measure(arguments.data, arguments.size, arguments.repeats, Path(scratch))
    keep("frozen_trunk", figures)


def _measure(data: str, size: int, repeats: int, scratch: Path) -> dict[str, float]:
    torch.manual_seed(0)
    weights = scratch / "resnet50.pth"
    torch.save(torchvision.models.resnet50().state_dict(), weights)
    config = TrainConfig(data=data, weights=str(weights), size=size, epochs=EPOCHS)
    folder = RunFolder(scratch / "run")
    examine(config, folder, cache=scratch / "cache", size=size)
    run = begin_run(config, folder, Execution(cache=scratch / "cache", devices="cpu", compile="off"))
    squares = run.squares(run.images())
    n_images = len(squares)
    plain, compiled, limit = [], [], []
    for repeat in range(repeats):
        limit.append(_timed(lambda: _forward_pass(run, squares)))
        plain.append(_timed(lambda run=run, repeat=repeat: _cross_validate(run, f"plain{repeat}")))
        with_kernels = dataclasses.replace(run, compile="on")
        if repeat == 0:
            _cross_validate(with_kernels, "warm-up")  # compiles the kernels that later runs find in the cache
        compiled.append(_timed(lambda run=with_kernels, repeat=repeat: _cross_validate(run, f"compiled{repeat}")))
    other_rate = dataclasses.replace(run, config=dataclasses.replace(config, learning_rate=1e-4))
    more_epochs = dataclasses.replace(run, config=dataclasses.replace(config, epochs=2 * EPOCHS))
    second = _timed(lambda: _cross_validate(other_rate, "second", keep_features=True))
    longer = _timed(lambda: _cross_validate(more_epochs, "longer", keep_features=True)) - second
    grown = dataclasses.replace(run, compile="on")
    _cross_validate(_WithoutTheLast(**vars(grown)), "fewer")
    added = _timed(lambda: _cross_validate(grown, "grown", keep_features=True)) - second
    loop = _loop_seconds_per_image(run, squares[:N_IN_LOOP]) * n_images * EPOCHS * (config.folds - 1)
    one_pass = statistics.median(limit)
    return {
        "n_images": n_images,
        "one forward pass (limit), s": round(one_pass, 1),
        "five folds, not compiled, s": round(statistics.median(plain), 1),
        "five folds, compiled, kernels cached, s": round(statistics.median(compiled), 1),
        "five folds / limit": round(statistics.median(a / b for a, b in zip(plain, limit, strict=True)), 2),
        "five folds, compiled / limit": round(
            statistics.median(a / b for a, b in zip(compiled, limit, strict=True)), 2
        ),
        "another learning rate, s": round(second, 1),
        "ten epochs more, s": round(longer, 1),
        f"{N_ADDED} images more, s": round(added, 2),
        f"{N_ADDED} images more / five folds, compiled": round(added / statistics.median(compiled), 3),
        "the loop people write (multiplied out), s": round(loop),
        "the loop / five folds": round(loop / statistics.median(plain)),
    }


class _WithoutTheLast(Run):
    """The run as it was before the last images were added."""

    def images(self) -> pd.DataFrame:
        """Return the images of the run without the last ones."""
        return super().images().iloc[:-N_ADDED]


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _cross_validate(run: Run, name: str, *, keep_features: bool = False) -> None:
    """Extract the features, then train every fold and predict its held-out images, in a folder of its own."""
    if not keep_features:
        shutil.rmtree(run.cache / "features", ignore_errors=True)
    copy = RunFolder(run.folder.path.with_name(name))
    shutil.copytree(run.folder.path, copy.path, ignore=shutil.ignore_patterns("folds", ".*"))
    mine = dataclasses.replace(run, folder=copy)
    features.extract(mine, "cpu")
    for fold in range(run.config.folds):
        train_fold(mine, fold, "cpu")


def _forward_pass(run: Run, squares: np.ndarray) -> None:
    model = Classifier(2, load_pretrained(run.config.weights)).eval()
    frozen, _ = model.stages("head")
    forward = accelerate(
        lambda: frozen, "one pass", "cpu", bf16=True, n_images=len(squares), compile="off", cache=run.cache
    )
    for part in torch.from_numpy(squares).split(features.CHUNK):
        forward(model.preprocessing.inputs(part))


def _loop_seconds_per_image(run: Run, squares: np.ndarray) -> float:
    model = Classifier(2, load_pretrained(run.config.weights)).eval()
    with torch.no_grad():
        return _timed(lambda: model(model.preprocessing.grey(torch.from_numpy(squares)).contiguous())) / len(squares)


if __name__ == "__main__":
    main()
