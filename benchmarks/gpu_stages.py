"""The stages of the GPU trial: each is a function that measures something and sets figures, one by one."""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from benchmarks.gpu_pack import PROJECT
from benchmarks.training import Step, bare_step, images_per_s
from cxr.config import Compile, Execution, ScoreConfig, TrainConfig
from cxr.dataset.examination import examine
from cxr.dataset.listing.layout import list_images
from cxr.evaluation.outside.tests import open_held_out_test
from cxr.evaluation.overview import headline
from cxr.export.build import make_package
from cxr.images.inbox import Arrival
from cxr.images.source import open_source
from cxr.network.resnet import Classifier
from cxr.pipeline import cross_validate, score_inbox
from cxr.serving import registry
from cxr.serving.predictor import Predictor
from cxr.serving.screening import examine_image
from cxr.storage import verified
from cxr.storage.model_folder import ModelFolder
from cxr.storage.run_folder import RunFolder
from cxr.training import features
from cxr.training.beginning import begin_run
from cxr.training.fold.loop import FoldTrainer
from cxr.training.run import load_run
from cxr.training.trainer import train_fold

SIDE_BY_SIDE = (2, 5)
"""Folds that train on one device at the same time."""
N_SCORED = 4096


@dataclass(frozen=True)
class Trial:
    """The options of a trial, which every stage gets."""

    data: str
    out: Path
    device: str
    small: bool
    seconds: float
    """That the stage may take."""
    open_test: bool
    originals: str = ""
    """Images as they come, to score; none by default."""
    stages: Sequence[str] = ()
    """That are run; all by default."""
    epochs: int | None = None
    """Of cross-validation, at most; those of the preset by default."""

    @property
    def size(self) -> int:
        """The side of the squares, in pixels."""
        return 32 if self.small else 224

    @property
    def rounds(self) -> int:
        """How often a rate is measured, the first time to warm up."""
        return 2 if self.small else 8

    @property
    def home(self) -> Path:
        """A folder for runs, models and the cache, which stages share."""
        return self.out / "home"

    def execution(self, run_id: str, **options: Any) -> Execution:
        """Return where a run is computed and kept."""
        where = {"experiments": self.home / "experiments", "cache": self.home / "cache", "devices": self.device}
        return Execution(run_id=run_id, **(where | options))


class Figures(dict[str, Any]):
    """What a stage measures; each figure is in its file at once, so that a stage that is stopped keeps what it has."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.file = file

    def __setitem__(self, name: str, figure: Any) -> None:
        super().__setitem__(name, figure)
        self.file.write_text(json.dumps(self, indent=1, default=str))


Stage = Callable[[Trial, Figures], None]


def run_tests(trial: Trial, figures: Figures) -> None:
    """Run the tests of the CUDA path; say how each ended."""
    words = [sys.executable, "-m", "pytest", "-m", "gpu", "--noconftest", "-p", "no:cacheprovider", "-rA", "--tb=short"]
    words += ["-W", "default", "-o", "addopts=", f"--basetemp={trial.home / 'tests'}", str(PROJECT / "tests" / "gpu")]
    environment = os.environ | {"CXR_TRIAL_DEVICE": trial.device}
    ended = subprocess.run(words, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
    outcomes = [line for line in ended.stdout.splitlines() if line.startswith(("PASSED", "FAILED", "ERROR", "SKIPPED"))]
    figures["exit code"] = ended.returncode
    figures["tests"] = outcomes
    figures["output"] = ended.stdout[-8000:]


def measure_training(trial: Trial, figures: Figures) -> None:
    """Time a fold's steps against the same step on a random batch, alone and beside other folds."""
    trainer = _trainer(trial)
    trainer.model.train()
    figures["batch"] = trainer.run.config.batch_size
    figures["images of a fold"] = trainer.n_images
    figures["random batches"] = _rate(trainer, bare_step(trainer), trial.rounds)
    figures["a fold"] = _rate(trainer, trainer._step, trial.rounds)
    figures["a fold / random batches"] = round(figures["a fold"] / figures["random batches"], 3)
    for n_folds in SIDE_BY_SIDE[:1] if trial.small else SIDE_BY_SIDE:
        figures[f"{n_folds} folds side by side"] = _side_by_side(trial, n_folds)


def train_on_cuda_graphs(trial: Trial, figures: Figures) -> None:
    """Time a fold's steps whose layers are compiled and replayed as CUDA graphs; a CPU has none."""
    if trial.device == "cpu":
        return
    trainer = _trainer(trial)
    trainer.model.train()
    compiled: Any = torch.compile(trainer.layers, mode="reduce-overhead")
    trainer.layers = compiled
    start = time.perf_counter()
    images_per_s(trainer, trainer._step)
    figures["first steps, s"] = round(time.perf_counter() - start, 1)
    figures["a fold"] = _rate(trainer, trainer._step, trial.rounds)


def _trainer(trial: Trial) -> FoldTrainer:
    config = TrainConfig(data=trial.data, preset="standard", weights="none", size=trial.size, holdout="test")
    folder = RunFolder.named(trial.home / "experiments", "steps")
    examine(config, folder, cache=trial.home / "cache", size=config.size)
    return FoldTrainer(begin_run(config, folder, trial.execution("steps")), 0, trial.device)


def _rate(trainer: FoldTrainer, step: Step, rounds: int) -> float:
    rates = [images_per_s(trainer, step) for _ in range(rounds)]
    return round(statistics.median(rates[1:]), 1)  # the first round warms up


def _side_by_side(trial: Trial, n_folds: int) -> float:
    """Return the images per second of folds that train at the same time, each in a process of its own."""
    words = [sys.executable, "-m", "benchmarks.gpu_trial", "--stage", "steps", *command_line(trial)]
    children = [
        subprocess.Popen(words, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(n_folds)
    ]
    for child in children:
        _read_line(child)  # it is ready
    for child in children:
        if child.stdin:
            child.stdin.write("go\n")
            child.stdin.flush()
    rates = [float(_read_line(child)) for child in children]
    for child in children:
        child.communicate()
    return round(sum(rates), 1)


def _read_line(child: subprocess.Popen[str]) -> str:
    return child.stdout.readline() if child.stdout else ""


def train_steps(trial: Trial) -> None:
    """Train steps when told to on standard input, and print their rate."""
    trainer = _trainer(trial)
    trainer.model.train()
    images_per_s(trainer, trainer._step)
    print("ready", flush=True)
    sys.stdin.readline()
    print(statistics.median(images_per_s(trainer, trainer._step) for _ in range(trial.rounds - 1)), flush=True)


def cross_validate_from_scratch(trial: Trial, figures: Figures) -> None:
    """Cross-validate with the preset `standard`, with as many of its epochs as the time allows; show all metrics."""
    recipe = TrainConfig(data=trial.data, preset="standard", weights="none", size=trial.size, holdout="test")
    measured = read_figures(trial, "training")
    rates = [value for name, value in measured.items() if name.endswith("side by side")]
    n_training = measured["images of a fold"] * recipe.folds
    possible = int(0.7 * trial.seconds * max(rates) / n_training) if rates else 1
    epochs = 1 if trial.small else max(1, min(trial.epochs or recipe.epochs, possible))
    config = replace(recipe, epochs=epochs, folds=2 if trial.small else 5)
    start = time.perf_counter()
    folder = cross_validate(config, trial.execution("scratch"))
    figures["epochs"] = config.epochs
    figures["seconds, all"] = round(time.perf_counter() - start, 1)
    figures["metrics, %"] = _records(headline(folder).drop(columns="starting_project"))
    if trial.open_test:
        opened = open_held_out_test(load_run(folder))
        figures["held-out test set"] = _records(verified.read_table(opened.metrics))


def score(trial: Trial, figures: Figures) -> None:
    """Time decoding by processes, the networks alone, and scoring runs as a whole."""
    run = load_run(RunFolder.named(trial.home / "experiments", "scratch"))
    model = ModelFolder.named(trial.home / "models", "trial")
    start = time.perf_counter()
    registry.promote(model, make_package(run, model).version)
    figures["packaging, s"] = round(time.perf_counter() - start, 1)
    package = registry.load_champion(trial.home / "models", "trial")
    squares = run.squares(run.images())
    n_folds = run.config.folds
    ways: list[tuple[Sequence[int], Compile]] = [((0,), "off")]
    if not trial.small:
        ways += [(range(n_folds), "off"), ((0,), "on")]
    for folds, compile in ways:
        predictor = Predictor(package, device=trial.device, compile=compile, cache=trial.home / "cache")
        taken = [_timed(lambda predictor=predictor, folds=folds: predictor.ensemble.run(squares, folds)) for _ in "abc"]
        figures[f"networks alone: {len(folds)}, compile {compile}, first time, s"] = round(taken[0], 1)
        figures[f"networks alone: {len(folds)}, compile {compile}, images/s"] = round(len(squares) / min(taken))
    _score_images(trial, figures, trial.data, "")
    if trial.originals:
        _score_images(trial, figures, trial.originals, " of originals")


def _score_images(trial: Trial, figures: Figures, data: str, of_what: str) -> None:
    """Time decoding and scoring runs on N_SCORED images of a data set, each as often as that takes."""
    source = open_source(data)
    files = [source.read(image.key) for image in list_images(source).images]
    n_images = min(len(files), 64) if trial.small else N_SCORED
    images = [_numbered(files[k % len(files)], k) for k in range(n_images)]
    figures[f"images{of_what}"] = f"{n_images}, of {len(files)} different ones"
    for n_processes in (1, 2) if trial.small else (1, 4, os.cpu_count() or 1):
        with ProcessPoolExecutor(n_processes) as pool:
            decode = partial(_decode, size=trial.size)
            list(pool.map(decode, images[:n_processes]))
            some = images[: 256 * n_processes]
            taken = _timed(lambda pool=pool, decode=decode, some=some: list(pool.map(decode, some, chunksize=16)))
        figures[f"decoded by {n_processes} processes{of_what}, images/s"] = round(len(some) / taken)
    inbox = trial.home / f"inbox{of_what}"
    (inbox / "batch").mkdir(parents=True)
    for number, image in enumerate(images):
        (inbox / "batch" / f"{number:05d}.jpeg").write_bytes(image)
    config = ScoreConfig(
        name="trial",
        out=trial.home / f"scores{of_what}",
        models=trial.home / "models",
        cache=trial.home / "cache",
        settle=0,
        device=trial.device,
        compile="off",  # five networks would take minutes to compile
    )
    taken = _timed(lambda: score_inbox(inbox, config, lambda *_: []))
    figures[f"a whole scoring run{of_what}, images/s"] = round(n_images / taken)


def _numbered(jpeg: bytes, number: int) -> bytes:
    """Return a JPEG with a number as its comment: another file, which is not taken for one that was scored before."""
    comment = str(number).encode()
    return jpeg[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + jpeg[2:]


def _decode(data: bytes, size: int) -> int:
    return examine_image(Arrival("image.jpeg", "", len(data), 0), data, size).arrival.n_bytes


def train_head(trial: Trial, figures: Figures) -> None:
    """Time a frozen trunk with random weights: its features, and the heads of all folds."""
    weights = trial.home / "resnet50.pth"
    torch.save(Classifier(2).network.state_dict(), weights)
    recipe = TrainConfig(data=trial.data, weights=str(weights), trainable="head", size=trial.size, epochs=10)
    config = replace(recipe, folds=2) if trial.small else recipe
    folder = RunFolder.named(trial.home / "experiments", "head")
    examine(config, folder, cache=trial.home / "cache", size=config.size)
    run = begin_run(config, folder, trial.execution("head"))
    figures["images"] = len(run.images())
    extracted = _timed(lambda: features.extract(run, trial.device))
    figures["features, images/s"] = round(figures["images"] / extracted)
    trained = _timed(lambda: [train_fold(run, fold, trial.device) for fold in range(config.folds)])
    figures[f"{config.folds} heads, s"] = round(trained, 1)


def command_line(trial: Trial) -> list[str]:
    """Return the options of a trial."""
    words = [f"--data={trial.data}", f"--out={trial.out}", f"--device={trial.device}"]
    words += [f"--minutes={trial.seconds / 60}", f"--originals={trial.originals}"]
    words += [f"--epochs={trial.epochs}"] * (trial.epochs is not None)
    return words + ["--small"] * trial.small + ["--open-test"] * trial.open_test


def figures_file(trial: Trial, stage: str) -> Path:
    """Return where a stage writes its figures."""
    return trial.out / f"{stage}.json"


def read_figures(trial: Trial, stage: str) -> dict[str, Any]:
    """Return what a stage has measured."""
    return json.loads(figures_file(trial, stage).read_text())


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a table's rows as JSON has them: a value that is NaN is null."""
    return json.loads(table.to_json(orient="records", double_precision=4))


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


STAGES: Mapping[str, tuple[Stage, float]] = {
    "tests": (run_tests, 0.25),
    "training": (measure_training, 0.35),
    "cross-validation": (cross_validate_from_scratch, 0.7),
    "scoring": (score, 0.7),
    "frozen-trunk": (train_head, 0.7),
    "cuda-graphs": (train_on_cuda_graphs, 1.0),
}
"""Each stage with the share of the time that is left which it may take."""
