"""From a finished run to a package, the next version of a model.

A package is built in a hidden folder and renamed when it is complete, so a version is whole or does not exist.
"""

import logging
import os
import shutil
from collections.abc import Mapping
from typing import Any

from cxr.config import OperatingPoint
from cxr.errors import PackageError, RunError
from cxr.export.contents import write_contents
from cxr.export.int8_export import require_int8
from cxr.network.onnx_graph import require_onnx
from cxr.storage import files, verified
from cxr.storage.model_folder import ModelFolder, PackageFolder
from cxr.training.run import Run, require_complete

log = logging.getLogger(__name__)


def make_package(
    run: Run,
    target: ModelFolder,
    *,
    operating_point: OperatingPoint = "youden",
    onnx: bool = False,
    int8: bool = False,
) -> PackageFolder:
    """Write a finished run as the next version of a model; return its folder.

    A run that was packaged under this name with the same options before keeps its version.

    Args:
        run: the finished run.
        target: the model.
        operating_point: whose threshold decides the predicted class; only for two classes.
        onnx: also write an ONNX graph from squares to probabilities.
        int8: also write the layers in 8-bit integers, which then score on CPUs that support them.

    Raises:
        ConfigError: a package needed for ONNX graphs or 8-bit integers is missing.
        RunError: the run is not finished.
        PackageError: the run has more than two classes and an operating point other than youden; or 8-bit integers
            move its probabilities too far.
    """
    _require_possible(run, operating_point, onnx=onnx, int8=int8)
    identity = {
        "format": files.FORMAT,
        "run": run.config_hash,
        "operating_point": operating_point,
        "onnx": onnx,
        "int8": int8,
        "weights": [verified.sha256_of(run.folder.fold(fold).weights) for fold in range(run.config.folds)],
    }
    with files.locked(target.lock, f"model {target.name}", patience_s=600):
        for leftover in target.path.glob(".making-*"):
            shutil.rmtree(leftover)
        version = _version_with(identity, target)
        if version is not None:
            log.info("run %s is already version %s of %s", run.folder.run_id, version, target.name)
            return target.version(version)
        package = _build(run, target, identity)
    log.info("%s version %s: %s", target.name, package.version, package.path)
    return package


def _require_possible(run: Run, operating_point: OperatingPoint, *, onnx: bool, int8: bool) -> None:
    """Check every precondition before anything is written; errors as in `make_package`."""
    require_complete(run)
    if not verified.exists(run.folder.predictions):
        raise RunError(f"run {run.folder.run_id!r} has no tables yet: type `cxr evaluate {run.folder.run_id}`.")
    if not run.classes.is_binary and operating_point != "youden":
        raise PackageError(
            f"--operating-point {operating_point} needs two classes, and the run has {len(run.classes)}: leave it out."
        )
    if onnx:
        require_onnx("--onnx")
    if int8:
        require_int8()


def _version_with(identity: Mapping[str, Any], target: ModelFolder) -> str | None:
    """Return the version of the model that has this identity; None without one.

    A folder that was copied or renamed from another model or version does not count: it cannot be loaded.
    """
    facts = {version: verified.read_json(target.version(version).description) for version in target.versions()}
    own = {version: of for version, of in facts.items() if (of["name"], of["version"]) == (target.name, version)}
    return next((version for version, of in own.items() if of["identity"] == identity), None)


def _build(run: Run, target: ModelFolder, identity: Mapping[str, Any]) -> PackageFolder:
    """Write the next version and return its folder."""
    version = _next_version(target)
    unfinished = PackageFolder(target.path / f".making-{os.getpid()}")
    unfinished.path.mkdir(parents=True)
    try:
        write_contents(unfinished, run, target.name, version, identity)
        files.write_text(target.newest, version + "\n")
        unfinished.path.rename(target.version(version).path)
    finally:
        shutil.rmtree(unfinished.path, ignore_errors=True)
    return target.version(version)


def _next_version(target: ModelFolder) -> str:
    """Return a number that no version has or had: the number of a deleted version is not reused."""
    newest = target.newest.read_bytes().strip() if target.newest.exists() else b"0"
    if not newest.isdigit():
        raise PackageError(
            f"{str(target.newest)!r} must hold the highest version number ever given, got {newest[:40]!r}: "
            "write it there."
        )
    return str(max(map(int, [*target.versions(), newest])) + 1)
