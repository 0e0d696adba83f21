"""A run: what identifies it, how it is begun or taken up again, and how its images are found.

A run's identity is its config, the content of its data and the content of its weights, hashed together.
`begin` takes up what `dataset.examine` found in the images; for a run that exists it checks that the identity
is the same. `config.json` is written last, and without it a run has not begun.
"""

import dataclasses
import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr.classes import Classes
from cxr.config import Compile, FoldsPerDevice, TrainConfig
from cxr.dataset.folds import read_folds
from cxr.dataset.pictures import read_squares
from cxr.errors import ConfigError, FoldError, RunError
from cxr.images.decoding import open_prepared
from cxr.images.source import KAGGLE
from cxr.network.devices import resolve_devices, share_threads
from cxr.network.resnet import PUBLISHED, load_pretrained
from cxr.storage import files
from cxr.storage.run_folder import FoldFolder, RunFolder
from cxr.training.provenance import code_provenance

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """A run that has been begun."""

    folder: RunFolder
    config: TrainConfig
    config_hash: str
    classes: Classes
    """In the order of the model's outputs; of two the positive one is last."""
    weights_hash: str
    """SHA-256 of the pretrained weights' file, or none."""
    cache: Path
    devices: list[str]
    """One for each fold that runs at the same time."""
    n_threads: list[int]
    """CPU threads of each fold, the same wherever it is trained: on other threads it would give other bits."""
    compile: Compile
    share: float = 1.0
    """Of each fold's training patients that are learnt from; below 1 for a learning curve alone."""

    def images(self) -> pd.DataFrame:
        """Return the images that are trained on and judged, by path: the folds' columns and subtype.

        Raises:
            FoldError: the folds on disk leak or were changed.
        """
        folds = read_folds(self.folder, self.config)
        manifest = files.read_table(self.folder.manifest)
        used = manifest.loc[manifest["status"] == "used", ["path", "subtype"]]
        return folds.merge(used, on="path", how="inner").sort_values("path", ignore_index=True)

    def training_images(self, fold: int) -> pd.DataFrame:
        """Return the images that a fold is trained on: of the other folds, or of a share of their patients.

        Patients are drawn by class, in an order that the run's seed sets: a smaller share is part of a larger one.
        """
        images = self.images().query("fold != @fold")
        if self.share == 1:
            return images
        groups = images.drop_duplicates("group_id").sample(frac=1, random_state=self.config.seed)
        place, size = groups.groupby("label").cumcount(), groups.groupby("label")["label"].transform("size")
        return images[images["group_id"].isin(groups["group_id"][place < np.ceil(self.share * size)])]

    def fold_folder(self, fold: int) -> FoldFolder:
        """Return where a fold keeps its files."""
        return self.folder.fold(fold) if self.share == 1 else self.folder.fold_of_share(self.share, fold)

    def squares(self, images: pd.DataFrame) -> NDArray[np.uint8]:
        """Return the images' grey squares, shape (n, size, size), decoding again what the cache has lost."""
        prepared = open_prepared(self.cache, self.config.size)
        missing = images[[image_id not in prepared for image_id in images["image_id"]]]
        if not missing.empty:
            log.info("decoding %d images that the cache does not hold", len(missing))
            prepared.add(self._decode(missing))
        return prepared.load(images["image_id"].tolist())

    def _decode(self, images: pd.DataFrame) -> dict[str, NDArray[np.uint8]]:
        squares = read_squares(self.config, self.config.size)
        return {i: squares(path, i) for path, i in zip(images["path"], images["image_id"], strict=True)}


def require_startable(
    config: TrainConfig, folder: RunFolder, devices: str, folds_per_device: FoldsPerDevice, redo_fold: tuple[int, ...]
) -> tuple[list[str], str]:
    """Return the devices and the hash of the weights, before hours are spent on reading images.

    Raises:
        CxrError: a fold to redo, a device or the weights are not there, or the run exists with another config.
    """
    for fold in redo_fold:
        if not 0 <= fold < config.folds:
            raise ConfigError(f"--redo-fold must name a fold from 0 to {config.folds - 1}, got {fold}.")
    slots = resolve_devices(devices, config, folds_per_device)
    if config.trainable == "head":
        slots = slots[:1]  # seconds a fold: one after the other, with all cores
    pretrained = load_pretrained(config.weights)
    weights_hash = pretrained.sha256 if pretrained else "none"
    if folder.has_begun:
        before = files.read_record(folder.config)["identity"]
        _require_same(folder.run_id, before, config.as_dict() | {"weights": weights_hash, "data": before["data"]})
    return slots, weights_hash


def begin_run(
    config: TrainConfig,
    folder: RunFolder,
    *,
    cache: Path,
    devices: str,
    folds_per_device: FoldsPerDevice = "auto",
    redo_fold: tuple[int, ...] = (),
    compile: Compile = "auto",
) -> Run:
    """Begin the run whose images were examined in `folder`, or take it up again.

    Args:
        redo_fold: folds whose results are forgotten.

    Raises:
        CxrError: as for `require_startable`, or no folds could be made.
    """
    slots, weights_hash = require_startable(config, folder, devices, folds_per_device, redo_fold)
    data = files.read_json(folder.data)
    if data["no_folds_because"]:
        raise FoldError(data["no_folds_because"])
    identity = config.as_dict() | {"data": data["data_hash"], "weights": weights_hash}
    first = {"begun_at": files.now(), "code": code_provenance()}
    if folder.has_begun:
        first = files.read_record(folder.config)
    classes = data["classes"]
    record = {
        "format": files.FORMAT,
        "run_id": folder.run_id,
        "begun_at": first["begun_at"],
        "config": _with_whole_paths(config).as_dict(),
        "identity": identity,
        "config_hash": _digest(identity),
        "classes": classes,
        "positive": classes[1] if len(classes) == 2 else None,
        "images": data["images"],
        "left_aside": data["left_aside"],
        "cache": str(cache.resolve()),
        "devices": slots,
        "n_threads": share_threads(config.folds, len(slots)),
        "compile": compile,
        "code": first["code"],
    }
    files.write_json(folder.config, record)
    for fold in redo_fold:
        folder.forget_fold(fold)
    return load_run(folder)


def load_run(folder: RunFolder) -> Run:
    """Return the run in `folder`, which has been begun before."""
    record = files.read_record(folder.config)
    config = TrainConfig.from_dict(record["config"])
    return Run(
        folder=folder,
        config=config,
        config_hash=record["config_hash"],
        classes=Classes(record["classes"]),
        weights_hash=record["identity"]["weights"],
        cache=Path(record["cache"]),
        devices=record["devices"],
        n_threads=record.get("n_threads") or share_threads(config.folds, len(record["devices"])),
        compile=record["compile"],
    )


def _require_same(run_id: str, before: Mapping[str, Any], identity: Mapping[str, Any]) -> None:
    changed = [
        f"{name} {before.get(name)!r} → {identity.get(name)!r}"
        for name in sorted(before.keys() | identity.keys())
        if before.get(name) != identity.get(name)
    ]
    if changed:
        raise RunError(
            f"run {run_id!r} was begun with another config: {'; '.join(changed)}. "
            "Give the same values, or another --run-id."
        )


def _with_whole_paths(config: TrainConfig) -> TrainConfig:
    """Return the config as it is found again from any folder."""
    data, weights = config.data, config.weights
    if data != KAGGLE:
        data = str(Path(data).expanduser().resolve())
    if weights not in ("none", *PUBLISHED):
        weights = str(Path(weights).expanduser().resolve())
    return dataclasses.replace(config, data=data, weights=weights)


def _digest(identity: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def require_complete(run: Run) -> None:
    """Raise RunError unless every fold has been trained to its end."""
    folder, n_folds = run.folder, run.config.folds
    unfinished = [str(fold) for fold in range(n_folds) if not folder.fold(fold).is_complete(run.config_hash)]
    if unfinished:
        raise RunError(
            f"run {folder.run_id!r} lacks fold {', '.join(unfinished)}: "
            f"type the run's `cxr train` again, or `cxr train-fold {folder.run_id} {unfinished[0]}`."
        )
