"""A run: what identifies it, how it is begun or taken up again, and how its films are found.

A run's identity is its config, the content of its data and the content of its weights, hashed together.
`begin` reads every film and makes the folds before it writes a file, so a mistake leaves nothing behind;
for a run that exists it checks that the identity is the same. `config.json` is written last.
"""

import dataclasses
import hashlib
import importlib.metadata
import json
import logging
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import cxr
from cxr import store
from cxr.config import TrainConfig
from cxr.devices import resolve_devices, share_threads
from cxr.errors import ConfigError, DataError, FoldError, RunError
from cxr.folds import assign_folds, certify, read_folds
from cxr.images import PreparedImages, decode_square
from cxr.manifest import build_manifest, class_names, count_films, data_hash
from cxr.model import PUBLISHED, load_pretrained
from cxr.source import KAGGLE, Listing, list_films, open_source
from cxr.store import RunFolder

log = logging.getLogger(__name__)

LIBRARIES = ("torch", "torchvision", "numpy", "pandas", "pyarrow", "scikit-learn", "scipy", "pillow")


@dataclass(frozen=True)
class Experiment:
    """A run that has been begun."""

    folder: RunFolder
    config: TrainConfig
    config_hash: str
    classes: list[str]
    """In the order of the model's outputs; of two the positive one is last."""
    cache: Path
    devices: list[str]
    """One for each fold that runs at the same time."""

    @property
    def n_threads(self) -> list[int]:
        """CPU threads of each fold."""
        return share_threads(self.config.folds, len(self.devices))

    def films(self) -> pd.DataFrame:
        """Return the films that are trained on and judged, by path: the folds' columns and subtype.

        Raises:
            FoldError: the folds on disk leak or were changed.
        """
        folds = read_folds(self.folder, self.config)
        manifest = store.read_table(self.folder.manifest)
        used = manifest.loc[manifest["status"] == "used", ["path", "subtype"]]
        return folds.merge(used, on="path", how="inner").sort_values("path", ignore_index=True)

    def squares(self, films: pd.DataFrame) -> NDArray[np.uint8]:
        """Return the films' grey squares, shape (n, size, size), decoding again what the cache has lost."""
        prepared = PreparedImages(self.cache, self.config.size)
        missing = films[[image_id not in prepared for image_id in films["image_id"]]]
        if not missing.empty:
            log.info("decoding %d films that the cache does not hold", len(missing))
            prepared.add(self._decode(missing))
        return prepared.load(films["image_id"].tolist())

    def _decode(self, films: pd.DataFrame) -> dict[str, NDArray[np.uint8]]:
        source = open_source(self.config.data)
        keys = {film.path: film.key for film in list_films(source).films}
        squares: dict[str, NDArray[np.uint8]] = {}
        for path, image_id in zip(films["path"], films["image_id"], strict=True):
            data = source.read(keys[path]) if path in keys else b""
            if hashlib.sha256(data).hexdigest() != image_id:
                raise DataError(
                    f"film {path!r} in {self.config.data!r} is gone or was changed since the run was begun."
                )
            squares[image_id] = decode_square(data, self.config.size)
        return squares


def begin(
    config: TrainConfig, folder: RunFolder, *, cache: Path, devices: str, redo_fold: tuple[int, ...] = ()
) -> Experiment:
    """Begin the run in `folder`, or take it up again if it was begun with the same config, data and weights.

    Args:
        redo_fold: folds whose results are forgotten.

    Raises:
        CxrError: the data, weights or parameters cannot be used, or the run exists with others.
    """
    for fold in redo_fold:
        if not 0 <= fold < config.folds:
            raise ConfigError(f"--redo-fold must name a fold from 0 to {config.folds - 1}, got {fold}.")
    slots = resolve_devices(devices, config)
    pretrained = load_pretrained(config.weights)
    source = open_source(config.data)
    listing = list_films(source)
    manifest = build_manifest(source, listing, config, PreparedImages(cache, config.size))
    _log_films(manifest, listing)
    classes = class_names(manifest, config)
    folds = assign_folds(manifest, config)
    _require_classes(classes, folds)
    certificate = certify(manifest, folds, config)
    log.info(
        "folds: %d of %d films in %d groups from %d patient ids; none crosses folds",
        config.folds, certificate["n_films"], certificate["n_groups"], certificate["n_patient_ids"],
    )  # fmt: skip
    identity = config.as_dict() | {
        "data": data_hash(manifest),
        "weights": pretrained.sha256 if pretrained else "none",
    }
    first = {"begun_at": store.now(), "code": code_provenance()}
    if folder.config.exists():
        first = store.read_json(folder.config)
        _require_same(folder.run_id, first["identity"], identity)
    else:
        store.write_table(folder.manifest, manifest)
        store.write_table(folder.folds, folds)
        store.write_json(folder.certificate, certificate)
    record = {
        "run_id": folder.run_id,
        "begun_at": first["begun_at"],
        "config": _with_whole_paths(config).as_dict(),
        "identity": identity,
        "config_hash": _digest(identity),
        "classes": classes,
        "positive": classes[1] if len(classes) == 2 else None,
        "films": count_films(manifest),
        "left_aside": listing.left_aside,
        "cache": str(cache.resolve()),
        "devices": slots,
        "code": first["code"],
    }
    store.write_json(folder.config, record)
    for fold in redo_fold:
        folder.forget_fold(fold)
    return load(folder)


def load(folder: RunFolder) -> Experiment:
    """Return the run in `folder`, which has been begun before."""
    record = store.read_json(folder.config)
    return Experiment(
        folder=folder,
        config=TrainConfig.from_dict(record["config"]),
        config_hash=record["config_hash"],
        classes=record["classes"],
        cache=Path(record["cache"]),
        devices=record["devices"],
    )


def _log_films(manifest: pd.DataFrame, listing: Listing) -> None:
    log.info("films: %s", " → ".join(f"{n:,} {name}" for name, n in count_films(manifest).items()))
    for row in manifest[manifest["status"] == "unreadable"].head(20).itertuples():
        log.warning("unreadable: %s (%s)", row.path, row.reason)
    for kind, n_files in listing.left_aside.items():
        log.info("left aside: %d × %s", n_files, kind)


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


def _require_classes(classes: list[str], folds: pd.DataFrame) -> None:
    lacking = sorted(set(classes) - set(folds["label"]))
    if lacking:
        raise FoldError(f"class {lacking[0]!r} has films in the holdout alone: give no --holdout, or more films of it.")


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


def code_provenance() -> dict[str, Any]:
    """Return what computed the run: versions, and hashes of this package's source and of the lock."""
    package = Path(__file__).parent
    source = hashlib.sha256(b"".join(file.read_bytes() for file in sorted(package.glob("*.py"))))
    lock = package.parent / "requirements.lock"
    return {
        "cxr": cxr.__version__,
        "cxr_source_sha256": source.hexdigest(),
        "requirements_lock_sha256": hashlib.sha256(lock.read_bytes()).hexdigest() if lock.exists() else None,
        "python": platform.python_version(),
        "platform": platform.platform(),
        **{library: importlib.metadata.version(library) for library in LIBRARIES},
    }
