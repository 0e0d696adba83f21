"""From a finished run to a package: weights, calibration, thresholds, what drift is judged by, and a card.

Everything that is chosen here is chosen on out-of-fold predictions.
"""

import dataclasses
import json
import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor

from cxr.config import OperatingPoint, TrainConfig
from cxr.errors import ConfigError, PackageError, RunError
from cxr.evaluation.out_of_fold import OutOfFold
from cxr.evaluation.overview import headline
from cxr.export.model_card import LICENCE, LIMITS, model_card
from cxr.export.onnx_export import export_onnx
from cxr.export.reference import reference_of
from cxr.export.rounding import INT8_COMPARED, N_COMPARED, measure_int8, measure_rounding, require_tolerable
from cxr.metrics.calibration import Calibration, calibration_errors, predict_labels
from cxr.network.int8 import int8_hindrance, quantise
from cxr.network.onnx_graph import require_onnx
from cxr.network.resnet import BATCH_SIZE, normalise, to_grey
from cxr.serving.ensemble import PackagedNetworks, Part, layers_of, parts_of
from cxr.storage import files
from cxr.storage.files import sha256_of
from cxr.storage.model_folder import ModelFolder, PackageFolder
from cxr.training.predictions import read_weights
from cxr.training.provenance import code_provenance
from cxr.training.run import Run, require_complete

log = logging.getLogger(__name__)

N_CALIBRATION = 256
"""Training images that the ranges of 8-bit integers are taken from."""


def make_package(
    run: Run,
    target: ModelFolder,
    *,
    operating_point: OperatingPoint = "youden",
    onnx: bool = False,
    int8: bool = False,
) -> PackageFolder:
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
    with files.locked(target.lock, f"model {target.name}", patience_s=600):
        for leftover in target.path.glob(".making-*"):
            shutil.rmtree(leftover)
        identity = {
            "format": files.FORMAT,
            "run": run.config_hash,
            "operating_point": operating_point,
            "onnx": onnx,
            "int8": int8,
            "weights": _weights_hashes(run),
        }
        for version in target.versions():
            if files.read_json(target.version(version).description)["identity"] == identity:
                log.info("run %s is version %s of %s already", run.folder.run_id, version, target.name)
                return target.version(version)
        numbers = [*target.versions(), target.newest.read_text() if target.newest.exists() else "0"]
        version = str(max(map(int, numbers)) + 1)
        making = PackageFolder(target.path / f".making-{os.getpid()}")
        making.path.mkdir(parents=True)
        try:
            _fill(making, run, target.name, version, identity)
            files.write_text(target.newest, version + "\n")
            making.path.rename(target.version(version).path)
        finally:
            shutil.rmtree(making.path, ignore_errors=True)
    log.info("%s version %s: %s", target.name, version, target.version(version).path)
    return target.version(version)


def _require_makeable(run: Run, operating_point: OperatingPoint, *, onnx: bool, int8: bool) -> None:
    """Raise what stands in the way of a package before anything of it is made; errors as for `make_package`."""
    require_complete(run)
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


def _weights_hashes(run: Run) -> list[str]:
    return [sha256_of(run.folder.fold(fold).weights) for fold in range(run.config.folds)]


def _fill(folder: PackageFolder, run: Run, name: str, version: str, identity: Mapping[str, Any]) -> None:
    predictions = files.read_table(run.folder.predictions)
    judged = OutOfFold(predictions, run.classes)
    logits, calibration, thresholds = judged.logits, judged.calibration, judged.thresholds
    _write_weights(folder, run)
    networks = PackagedNetworks(
        folder, len(run.classes), run.config.folds, run.config.trainable, "a package in the making"
    )
    coarse = {"int8": _write_int8(networks, run, predictions, calibration)} if identity["int8"] else {}
    images, novelty = reference_of(networks, run, predictions, calibration.probability(logits))
    if identity["onnx"]:
        models = [networks.model(fold) for fold in range(networks.n_folds)]
        export_onnx(folder.onnx, models, run.config.trainable, run.config.size, calibration)
    rounding = measure_rounding(networks, calibration, run.squares(_spread(predictions, N_COMPARED)), run.cache)
    predicted = predict_labels(
        calibration.probability(logits), run.classes, thresholds.get(identity["operating_point"], 0.5)
    )
    files.write_table(folder.images, images.assign(predicted_label=predicted))
    novelty.save(folder.novelty)
    errors = {
        "before": calibration_errors(judged.probability, judged.target),
        "after": calibration_errors(judged.calibrated, judged.target),
    }
    record = files.read_record(run.folder.config)
    facts = {
        "format": files.FORMAT,
        "name": name,
        "version": version,
        "identity": identity,
        "made_at": files.now(),
        "run_id": run.folder.run_id,
        "classes": run.classes,
        "positive": record["positive"],
        "architecture": "torchvision resnet50",
        "trainable": run.config.trainable,
        "size": run.config.size,
        "n_folds": run.config.folds,
        "n_images": len(images),
        "preprocessing": "decoded to grey (luma), stretched to size × size with bilinear filtering, divided by 255, "
        "repeated to 3 channels, mean and deviation (stored with the weights) taken off",
        "calibration": dataclasses.asdict(calibration) | errors,
        "thresholds": thresholds,
        "operating_point": identity["operating_point"],
        "metrics": _metrics(run),
        "bfloat16": rounding,
        "hashes": {"data": record["identity"]["data"], "weights": run.weights_hash, "config": run.config_hash},
        "config": _without_folders(run.config),
        "code": code_provenance(),
        "licence": LICENCE,
        "limits": LIMITS,
        **coarse,
    }
    files.write_json(folder.description, facts)
    files.write_text(folder.card, model_card(facts))
    sums = [f"{sha256_of(path)}  {path.name}\n" for path in sorted(folder.path.iterdir())]
    files.write_text(folder.checksums, "".join(sums))


def _spread(images: pd.DataFrame, n: int) -> pd.DataFrame:
    """Return n of the images, evenly spread over the table; all where there are fewer."""
    return images.iloc[np.linspace(0, len(images) - 1, min(n, len(images)), dtype=int)]


def _write_int8(
    networks: PackagedNetworks, run: Run, predictions: pd.DataFrame, calibration: Calibration
) -> dict[str, Any]:
    """Write the layers in 8-bit integers, each part calibrated on images that it was trained on; return what they cost.

    Raises:
        PackageError: they cost too much.
    """
    for part, fold in parts_of(networks):
        images = _spread(predictions[predictions["fold"] != fold], N_CALIBRATION)
        inputs = _inputs(networks, part, run.squares(images))
        quantise(layers_of(networks, part, fold), inputs, networks.int8_graph(part, fold))
    compared = _spread(predictions, INT8_COMPARED)
    target = np.array([run.classes.index(label) for label in compared["label"]], dtype=np.int64)
    squares, folds = run.squares(compared), compared["fold"].to_numpy()
    found = measure_int8(networks, calibration, squares, folds, target, run.cache)
    require_tolerable(found)
    return found


@torch.inference_mode()
def _inputs(networks: PackagedNetworks, part: Part, squares: NDArray[np.uint8]) -> Tensor:
    """Return what flows into a part for images."""
    mean, std = networks.constants()
    parts = [normalise(to_grey(images), mean, std) for images in torch.from_numpy(squares).split(BATCH_SIZE)]
    if part == "own" and networks.trainable == "layer4":
        shared = layers_of(networks, "shared", 0)
        parts = [shared(inputs) for inputs in parts]
    return torch.cat(parts)


def _without_folders(config: TrainConfig) -> dict[str, Any]:
    """Return a config that tells nothing of where things lay on this machine."""
    return config.as_dict() | {"data": Path(config.data).name, "weights": Path(config.weights).name}


def _write_weights(folder: PackageFolder, run: Run) -> None:
    """Write the tensors that are the same in all folds once, the others for each fold."""
    states = [read_weights(run, fold) for fold in range(run.config.folds)]
    first = states[0]
    shared = {name for name in first if all(first[name].equal(state[name]) for state in states[1:])}
    parts = {folder.shared_weights: {name: first[name] for name in shared}}
    parts |= {
        folder.fold_weights(k): {n: t for n, t in state.items() if n not in shared} for k, state in enumerate(states)
    }
    for path, tensors in parts.items():
        with files.replacing(path) as temporary:
            temporary.write_bytes(save(tensors))


def _metrics(run: Run) -> list[dict[str, Any]]:
    rows = headline(run.folder)
    return json.loads(rows.drop(columns="starting_project").to_json(orient="records"))
