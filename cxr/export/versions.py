"""Versions of a model: each is written in a hidden folder and renamed when it is complete.

So a version is whole or does not exist. What is packaged, and how, is its identity: the same is never packaged twice.
What was pulled is known by its content.
"""

import logging
import os
import shutil
from collections.abc import Callable, Mapping
from typing import Any

from cxr.errors import PackageError
from cxr.storage import files, verified
from cxr.storage.model_folder import ModelFolder, PackageFolder

log = logging.getLogger(__name__)

Write = Callable[[PackageFolder, str], None]
"""Writes every file of a package into an empty folder, given the version's number."""
IsSame = Callable[[PackageFolder, Mapping[str, Any]], bool]
"""Returns whether a version, given its folder and its package.json, is the one to be written."""


def has_identity(identity: Mapping[str, Any]) -> IsSame:
    """Return the function that tells a version by what was packaged, and how."""
    return lambda _, facts: facts["identity"] == identity


def add_version(target: ModelFolder, is_same: IsSame, write: Write) -> PackageFolder:
    """Write the next version of a model, unless it has the same one; return the version's folder."""
    with files.locked(target.lock, f"model {target.name}", patience_s=600):
        for leftover in target.path.glob(".making-*"):
            shutil.rmtree(leftover)
        files.sweep(target.path)
        version = _same_version(is_same, target)
        if version is not None:
            log.info("this is already version %s of %s", version, target.name)
            return target.version(version)
        package = _build(target, write)
    log.info("%s version %s: %s", target.name, package.version, package.path)
    return package


def _same_version(is_same: IsSame, target: ModelFolder) -> str | None:
    """Return the version of the model that is the one to be written; None without one.

    A folder that was copied or renamed from another model or version does not count: it cannot be loaded.
    """
    facts = {version: verified.read_json(target.version(version).description) for version in target.versions()}
    own = {version: of for version, of in facts.items() if (of["name"], of["version"]) == (target.name, version)}
    return next((version for version, of in own.items() if is_same(target.version(version), of)), None)


def _build(target: ModelFolder, write: Write) -> PackageFolder:
    """Write the next version and return its folder."""
    version = _next_version(target)
    unfinished = PackageFolder(target.path / f".making-{os.getpid()}")
    unfinished.path.mkdir(parents=True)
    try:
        write(unfinished, version)
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
