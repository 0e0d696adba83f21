"""How a run begins, or is resumed: what is checked before images are read, and what is written down.

`begin_run` starts from what `examine` found in the images; if the run exists already, its identity has to be the same.
`config.json` is written last: without it a run has not begun.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cxr.classes import outputs_of
from cxr.config import KAGGLE, KAGGLE_PATIENT, Execution, TrainConfig
from cxr.dataset.patients import KNOWN
from cxr.errors import ConfigError, FoldError, RunError
from cxr.storage import files, verified
from cxr.storage.run_folder import RunFolder
from cxr.training.provenance import code_provenance
from cxr.training.run import Run, identity_of


@dataclass(frozen=True)
class Start:
    """What is known about a run before any image is read."""

    devices: list[str]
    """One for each fold that runs at the same time."""
    weights_hash: str
    """SHA-256 of the file of pretrained weights, or none."""


def require_startable(config: TrainConfig, folder: RunFolder, execution: Execution) -> Start:
    """Check all that can be checked before hours are spent on reading images; return what was found.

    Raises:
        CxrError: a fold to redo, a device or the weights do not exist, or the run was begun with another config.
    """
    from cxr.network.devices import resolve_devices
    from cxr.network.resnet import load_pretrained

    for fold in execution.redo_fold:
        if not 0 <= fold < config.folds:
            raise ConfigError(f"--redo-fold must name a fold from 0 to {config.folds - 1}, got {fold}.")
    devices = resolve_devices(execution.devices, config, execution.folds_per_device)
    if config.trainable == "head":
        devices = devices[:1]  # a fold takes seconds: one after another, with all cores
    pretrained = load_pretrained(config.weights)
    start = Start(devices, pretrained.sha256 if pretrained else "none")
    if folder.has_begun:
        before = verified.read_record(folder.config)["identity"]
        current = identity_of(_with_pattern_found(config, folder), before["data"], start.weights_hash)
        _require_same(folder.run_id, before, current)
    return start


def begin_run(config: TrainConfig, folder: RunFolder, execution: Execution, start: Start | None = None) -> Run:
    """Begin the run whose images were examined in `folder`, or resume it; the folds to redo are forgotten.

    Args:
        config: what is computed.
        folder: the run's folder, which holds the tables of `examine`.
        execution: where it is computed and kept.
        start: what `require_startable` returned for the same arguments; by default it is called here.

    Raises:
        CxrError: as for `require_startable`, or no folds could be made.
    """
    from cxr.network.devices import share_threads

    start = start or require_startable(config, folder, execution)
    config = _with_pattern_found(config, folder)
    data = verified.read_json(folder.data)
    if data["no_folds_because"]:
        raise FoldError(data["no_folds_because"])
    run = Run(
        folder=folder,
        config=_with_whole_paths(config),
        identity=identity_of(config, data["data_hash"], start.weights_hash),
        outputs=outputs_of(data["classes"], several=config.has_findings),
        cache=execution.cache.resolve(),
        devices=start.devices,
        n_threads=share_threads(config.folds, len(start.devices)),
        compile=execution.compile,
    )
    counts = {"images": data["images"], "left_aside": data["left_aside"]}
    number = files.FINDINGS_FORMAT if config.has_findings else files.FORMAT
    verified.write_json(folder.config, {"format": number, **run.to_record(), **counts, **_origin(folder)})
    for fold in execution.redo_fold:
        run.forget_fold(fold)
    return run


def _origin(folder: RunFolder) -> dict[str, Any]:
    """Return when the run began and on which code: now, or as written down when it did."""
    if folder.has_begun:
        record = verified.read_record(folder.config)
        return {"begun_at": record["begun_at"], "code": record["code"]}
    return {"begun_at": files.now(), "code": code_provenance()}


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
    """Return the config with absolute paths, so that the run can be resumed from any folder."""
    from cxr.network.resnet import PUBLISHED

    data = config.data
    if data != KAGGLE:
        data = str(Path(data).expanduser().resolve())
    weights = config.weights
    if weights not in ("none", *PUBLISHED):
        weights = str(Path(weights).expanduser().resolve())
    lists = [f"{split}={_whole(name)}" for split, _, name in (text.partition("=") for text in config.split_list)]
    labels = tuple(map(_whole, config.labels))
    return dataclasses.replace(config, data=data, weights=weights, labels=labels, split_list=tuple(lists))


def _whole(name: str) -> str:
    """Return the absolute path of a file on this machine; the name as it is where the file lies within the data."""
    path = Path(name).expanduser()
    return str(path.resolve()) if path.is_file() else name


def _with_pattern_found(config: TrainConfig, folder: RunFolder) -> TrainConfig:
    """Return the config with the pattern that `examine` found to fit, unless another one was given.

    Data that an older version examined do not say: it knew the default alone.
    """
    if config.patient_pattern != KAGGLE_PATIENT:
        return config
    found = verified.read_json(folder.data).get("patient_pattern", KAGGLE_PATIENT)
    return dataclasses.replace(config, patient_pattern=found) if found in KNOWN.values() else config
