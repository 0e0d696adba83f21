"""From a finished run to a package: weights, calibration, thresholds, what drift is judged by, and a card.

Everything that is chosen here is chosen on out-of-fold predictions.
"""

import dataclasses
import importlib.resources
import json
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jinja2 import Environment, StrictUndefined
from numpy.typing import NDArray
from safetensors.torch import load_file, save
from torch import Tensor, nn

from cxr import __version__, evaluation, store
from cxr.appraisal import OutOfFold
from cxr.calibration import Calibration, calibration_errors, call_films
from cxr.config import OperatingPoint, Trainable, TrainConfig
from cxr.drift import fit_novelty, layout
from cxr.ensemble import Part, layers_of, parts_of
from cxr.errors import ConfigError, PackageError, RunError
from cxr.experiment import Experiment, code_provenance
from cxr.forward import accelerate
from cxr.inference import read_weights
from cxr.int8 import int8_hindrance, quantise
from cxr.layout import ModelFolder, PackageFolder
from cxr.model import BATCH_SIZE, Classifier, normalise, to_grey
from cxr.onnx_export import export_onnx
from cxr.onnx_graph import require_onnx
from cxr.package import FORMAT, FilmNovelty, sha256_of
from cxr.rounding import INT8_COMPARED, N_COMPARED, measure_int8, measure_rounding, require_tolerable
from cxr.vitals import fingerprint, measure_levels

log = logging.getLogger(__name__)

N_NOVELTY = 2000
"""Training films that the measure of novelty is fitted on."""
N_CALIBRATION = 256
"""Training films that the ranges of 8-bit integers are taken from."""
LICENCE = "apache-2.0"
LIMITS = (
    "For academic and research use only. Not a medical device; not for diagnosis.",
    "Trained on the films described here and no others: other ages, hospitals and machines were not tried.",
    "It answers with one of its classes whatever it is shown; drift and novelty are watched, not prevented.",
)


def make_package(
    run: Experiment, target: ModelFolder, *, operating_point: OperatingPoint = "youden", onnx: bool = False,
    int8: bool = False,
) -> PackageFolder:  # fmt: skip
    """Write a finished run as the next version of a model; return its folder.

    A run that was packaged before under this name, in the same way, keeps its version.

    Args:
        onnx: write the whole path from squares to probabilities as an ONNX graph as well.
        int8: write the layers in 8-bit integers as well, which then score on CPUs that have them.

    Raises:
        ConfigError: what ONNX graphs or 8-bit integers need is missing.
        RunError: the run is not finished.
        PackageError: the run has more than two classes and another operating point than youden; or 8-bit integers move
            its probabilities too far.
    """
    _require_makeable(run, operating_point, onnx=onnx, int8=int8)
    with store.locked(target.lock, f"model {target.name}", patience_s=600):
        for leftover in target.path.glob(".making-*"):
            shutil.rmtree(leftover)
        identity = {
            "format": FORMAT,
            "run": run.config_hash,
            "operating_point": operating_point,
            "onnx": onnx,
            "int8": int8,
            "weights": _weights_hashes(run),
        }
        for version in target.versions():
            if store.read_json(target.version(version).description)["identity"] == identity:
                log.info("run %s is version %s of %s already", run.folder.run_id, version, target.name)
                return target.version(version)
        numbers = [*target.versions(), target.newest.read_text() if target.newest.exists() else "0"]
        version = str(max(map(int, numbers)) + 1)
        making = PackageFolder(target.path / f".making-{os.getpid()}")
        making.path.mkdir(parents=True)
        try:
            _fill(making, run, target.name, version, identity)
            store.write_text(target.newest, version + "\n")
            making.path.rename(target.version(version).path)
        finally:
            shutil.rmtree(making.path, ignore_errors=True)
    log.info("%s version %s: %s", target.name, version, target.version(version).path)
    return target.version(version)


def _require_makeable(run: Experiment, operating_point: OperatingPoint, *, onnx: bool, int8: bool) -> None:
    """Raise what stands in the way of a package before anything of it is made; errors as for `make_package`."""
    evaluation.require_complete(run)
    if not run.folder.predictions.exists():
        raise RunError(f"run {run.folder.run_id!r} has no tables yet: type `cxr evaluate {run.folder.run_id}`.")
    if len(run.classes) > 2 and operating_point != "youden":
        raise PackageError(f"operating points are for two classes; {len(run.classes)} have none: leave it out.")
    if onnx:
        require_onnx("--onnx")
    if int8:
        require_onnx("--int8")
        if hindrance := int8_hindrance("cpu"):
            raise ConfigError(f"--int8 cannot be had: {hindrance}.")


def _weights_hashes(run: Experiment) -> list[str]:
    return [sha256_of(run.folder.fold(fold).weights) for fold in range(run.config.folds)]


def _fill(folder: PackageFolder, run: Experiment, name: str, version: str, identity: Mapping[str, Any]) -> None:
    predictions = store.read_table(run.folder.predictions)
    judged = OutOfFold(predictions, run.classes)
    logits, calibration, thresholds = judged.logits, judged.calibration, judged.thresholds
    _write_weights(folder, run)
    networks = _Networks(folder, run)
    coarse = {"int8": _write_int8(networks, run, predictions, calibration)} if identity["int8"] else {}
    films, novelty = _reference(networks, run, predictions, calibration.probability(logits))
    if identity["onnx"]:
        models = [networks.model(fold) for fold in range(networks.n_folds)]
        export_onnx(folder.onnx, models, run.config.trainable, run.config.size, calibration)
    rounding = measure_rounding(networks, calibration, run.squares(_spread(predictions, N_COMPARED)), run.cache)
    called = call_films(calibration.probability(logits), run.classes, thresholds.get(identity["operating_point"], 0.5))
    store.write_table(folder.films, films.assign(predicted_label=called))
    novelty.save(folder.novelty)
    errors = {
        "before": calibration_errors(judged.probability, judged.target),
        "after": calibration_errors(judged.calibrated, judged.target),
    }
    record = store.read_json(run.folder.config)
    facts = {
        "format": FORMAT, "name": name, "version": version, "identity": identity, "made_at": store.now(),
        "run_id": run.folder.run_id, "classes": run.classes, "positive": record["positive"],
        "architecture": "torchvision resnet50", "trainable": run.config.trainable, "size": run.config.size,
        "n_folds": run.config.folds, "n_films": len(films),
        "preprocessing": "decoded to grey (luma), stretched to size × size with bilinear filtering, divided by 255, "
        "repeated to 3 channels, mean and deviation (stored with the weights) taken off",
        "calibration": dataclasses.asdict(calibration) | errors, "thresholds": thresholds,
        "operating_point": identity["operating_point"], "metrics": _metrics(run), "bfloat16": rounding,
        "hashes": {"data": record["identity"]["data"], "weights": run.weights_hash, "config": run.config_hash},
        "config": _without_folders(run.config), "code": code_provenance(), "licence": LICENCE, "limits": LIMITS,
        **coarse,
    }  # fmt: skip
    store.write_json(folder.description, facts)
    store.write_text(folder.card, model_card(facts))
    sums = [f"{sha256_of(path)}  {path.name}\n" for path in sorted(folder.path.iterdir())]
    store.write_text(folder.checksums, "".join(sums))


def _spread(films: pd.DataFrame, n: int) -> pd.DataFrame:
    """Return n of the films, evenly spread over the table; all where there are fewer."""
    return films.iloc[np.linspace(0, len(films) - 1, min(n, len(films)), dtype=int)]


def _write_int8(
    networks: "_Networks", run: Experiment, predictions: pd.DataFrame, calibration: Calibration
) -> dict[str, Any]:
    """Write the layers in 8-bit integers, each part calibrated on films that it was trained on; return what they cost.

    Raises:
        PackageError: they cost too much.
    """
    for part, fold in parts_of(networks):
        films = _spread(predictions[predictions["fold"] != fold], N_CALIBRATION)
        inputs = _inputs(networks, part, run.squares(films))
        quantise(layers_of(networks, part, fold), inputs, networks.int8_graph(part, fold))
    compared = _spread(predictions, INT8_COMPARED)
    target = compared["label"].map(run.classes.index).to_numpy()
    squares, folds = run.squares(compared), compared["fold"].to_numpy()
    found = measure_int8(networks, calibration, squares, folds, target, run.cache)
    require_tolerable(found)
    return found


@torch.inference_mode()
def _inputs(networks: "_Networks", part: Part, squares: NDArray[np.uint8]) -> Tensor:
    """Return what flows into a part for films."""
    mean, std = networks.constants()
    parts = [normalise(to_grey(films), mean, std) for films in torch.from_numpy(squares).split(BATCH_SIZE)]
    if part == "own" and networks.trainable == "layer4":
        shared = layers_of(networks, "shared", 0)
        parts = [shared(inputs) for inputs in parts]
    return torch.cat(parts)


def _without_folders(config: TrainConfig) -> dict[str, Any]:
    """Return a config that tells nothing of where things lay on this machine."""
    return config.as_dict() | {"data": Path(config.data).name, "weights": Path(config.weights).name}


def _write_weights(folder: PackageFolder, run: Experiment) -> None:
    """Write the tensors that are the same in all folds once, the others for each fold."""
    states = [read_weights(run, fold) for fold in range(run.config.folds)]
    first = states[0]
    shared = {name for name in first if all(first[name].equal(state[name]) for state in states[1:])}
    parts = {folder.shared_weights: {name: first[name] for name in shared}}
    parts |= {
        folder.fold_weights(k): {n: t for n, t in state.items() if n not in shared} for k, state in enumerate(states)
    }
    for path, tensors in parts.items():
        with store.replacing(path) as temporary:
            temporary.write_bytes(save(tensors))


@dataclass(frozen=True)
class _Networks:
    """The folds' networks as they were written."""

    folder: PackageFolder
    run: Experiment
    identity: str = "a package in the making"

    @property
    def n_folds(self) -> int:
        return self.run.config.folds

    @property
    def trainable(self) -> Trainable:
        return self.run.config.trainable

    def model(self, fold: int) -> Classifier:
        """Return a fold's network, in evaluation mode."""
        model = Classifier(len(self.run.classes)).eval()
        model.load_state_dict(load_file(self.folder.shared_weights) | load_file(self.folder.fold_weights(fold)))
        return model

    def head(self, fold: int) -> nn.Linear:
        """Return the last layer of a fold's network."""
        head = self.model(fold).network.fc
        assert isinstance(head, nn.Linear)  # noqa: S101 as Classifier makes it
        return head

    def constants(self) -> tuple[Tensor, Tensor]:
        """Return the mean and deviation that inputs are normalised with."""
        model = self.model(0)
        return model.mean, model.std

    def int8_graph(self, part: Part, fold: int) -> Path:
        """Return the file of a part of a fold's network in 8-bit integers."""
        return self.folder.int8_graph(part, fold)


def _reference(
    networks: _Networks, run: Experiment, predictions: pd.DataFrame, probability: NDArray[np.float64]
) -> tuple[pd.DataFrame, FilmNovelty]:
    """Return the films that the model was made from, and the measure of novelty.

    Novelty is fitted on training films of fold 0's network and measured on the films which that network never
    saw, as the films of a batch will be; for the others it is missing.
    """
    manifest = store.read_table(run.folder.manifest).drop_duplicates("path").set_index("path")
    squares = run.squares(predictions)
    levels = pd.DataFrame([vars(measure_levels(square)) for square in squares])
    sizes = manifest.loc[predictions["path"], ["width", "height", "chroma"]].reset_index(drop=True)
    columns = {f"probability_{name}": probability[:, k] for k, name in enumerate(run.classes)}
    held_out = (predictions["fold"] == 0).to_numpy()
    training = np.flatnonzero(~held_out)
    fitted_on = training[np.linspace(0, len(training) - 1, min(N_NOVELTY, len(training)), dtype=int)]
    model = networks.model(0)
    trunk, _ = model.stages("head")
    forward = accelerate(
        lambda: trunk, "fold 0 of a package in the making", run.devices[0], bf16=False, n_films=0, compile="off",
        cache=run.cache,
    )  # fmt: skip

    def features(films: NDArray[np.uint8]) -> NDArray[np.float32]:
        parts = torch.from_numpy(films).split(BATCH_SIZE)
        return torch.cat([forward(normalise(to_grey(part), model.mean, model.std)) for part in parts]).numpy()

    known = squares[fitted_on]
    novelty = FilmNovelty(fit_novelty(features(known)), fit_novelty(layout(known)))
    distance = np.full(len(predictions), np.nan)
    distance[held_out] = novelty.distance(features(squares[held_out]), squares[held_out])
    films = pd.DataFrame(
        {
            "image_id": predictions["image_id"],
            "fingerprint": [fingerprint(square) for square in squares],
            "group": predictions["group_id"].factorize()[0],  # a number: an id may name a patient
            "fold": predictions["fold"],
            "label": predictions["label"],
            **columns,
            "novelty": distance,
        }
    )
    return pd.concat([films, sizes, levels], axis=1), novelty


def _metrics(run: Experiment) -> list[dict[str, Any]]:
    rows = evaluation.headline(run.folder)
    return json.loads(rows.drop(columns="starting_project").to_json(orient="records"))


def model_card(facts: Mapping[str, Any]) -> str:
    """Return the card as Markdown with Hugging Face's model-index metadata."""
    template = (importlib.resources.files("cxr") / "model_card.md.j2").read_text(encoding="utf-8")
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)  # noqa: S701 Markdown
    environment.filters["yaml"] = json.dumps  # JSON strings are YAML strings
    return environment.from_string(template).render(**facts, cxr_version=__version__)
