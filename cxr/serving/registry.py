"""Which version of a model scores: the champion.

The registry is plain files. `models/<name>/champion` names a version and is replaced in one step. `promotions.json`
records each change of champion, with its time and reason, and is what `rollback` goes by. A challenger becomes champion
unless its ROC-AUC is shown to be worse, by a paired bootstrap over patients on the images that both models predicted
out of fold. Versions of one run that differ in calibration alone rank images alike, so that there is nothing to
compare; whether their thresholds suit a site, labelled images of the site show.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from cxr.errors import DamagedError, PackageError
from cxr.serving.challenger import compare
from cxr.serving.origin import describe_origin
from cxr.serving.package import Package, load_package, require_own_name
from cxr.storage import files, verified
from cxr.storage.model_folder import ModelFolder, PackageFolder, way_out

log = logging.getLogger(__name__)

Found = TypeVar("Found")


def champion_version(model: ModelFolder) -> str | None:
    """Return the champion's version; None if there is no champion.

    Raises:
        DamagedError: the file that names it is missing, or was changed.
        PackageError: the file names no version.
    """
    if not verified.exists(model.champion):
        return None
    version = verified.read_bytes(model.champion).decode(errors="replace").strip()
    if not (version.isascii() and version.isdecimal()):
        raise PackageError(
            f"{str(model.champion)!r} must hold the number of a version, got {version!r}: {way_out(model.champion)}."
        )
    return version


def load_champion(models: Path, name: str) -> Package:
    """Return the champion of a model.

    Raises:
        PackageError: the model does not exist, has no champion, or its champion was changed.
    """
    model = ModelFolder.named(models, name)
    version = champion_version(model)
    if version is None:
        raise PackageError(
            f"model {name!r} in {str(models)!r} has no champion (versions: {_versions(model)}): "
            f"`cxr package RUN --name {name}` makes a version, `cxr promote {name} VERSION` makes it champion."
        )
    return load_package(model.version(version))


def load_version(models: Path, name: str, version: str | None) -> Package:
    """Return a version of a model; the champion if none is named.

    Raises:
        PackageError: as for `load_champion`; or the model has no such version.
    """
    if version is None:
        return load_champion(models, name)
    model = ModelFolder.named(models, name)
    _require(model)
    _require_version(model, version)
    return load_package(model.version(version))


def promote(
    model: ModelFolder, version: str, *, force: bool = False, over: str | None = None, because: str | None = None
) -> str:
    """Make a version the champion; return a sentence on how it compares with the champion before.

    Args:
        model: of the version.
        version: its number.
        force: promote a version that is shown to be worse, or cannot be compared, and where the champion before is
            unknown.
        over: the champion that it may replace; None for any.
        because: what else was found, which is recorded before the comparison.

    Raises:
        PackageError: the version does not exist or is damaged; another version than `over` is the champion; or what
            `force` overrides.
    """
    _require(model)
    with files.locked(model.lock, f"model {model.name}", patience_s=60):
        _require_version(model, version)
        challenger = load_package(model.version(version))
        before = _or_none(champion_version, model, force=force)
        if before == version:
            return f"version {version} of {model.name} is already champion"
        if over not in (None, before):
            raise PackageError(
                f"version {before} of {model.name} has become champion in place of {over}, which version {version} was "
                f"compared with: `cxr promote {model.name} {version}` compares them."
            )
        verdict = _verdict(model, before, challenger, force=force)
        verdict = f"{because}; {verdict}" if because else verdict
        _set_champion(model, before, version, verdict, force=force)
    log.info("champion of %s: version %s (%s)", model.name, version, verdict)
    return verdict


def _or_none(read: Callable[[ModelFolder], Found], model: ModelFolder, *, force: bool) -> Found | None:
    """Return what a file of the model says; by force, None and a warning if the file is damaged."""
    try:
        return read(model)
    except (DamagedError, PackageError) as error:
        if not force:
            raise
        log.warning("overruled by force: %s", error)
        return None


def _verdict(model: ModelFolder, champion: str | None, challenger: Package, *, force: bool) -> str:
    """Return how a challenger compares with the champion; raise PackageError if it may not replace it."""
    if champion is None:
        return "the first champion"
    verdict, is_worse = _compare_with(model.version(champion), challenger)
    if is_worse and not force:
        raise PackageError(
            f"version {challenger.version} of {model.name} does not become champion: {verdict}. "
            "--force promotes it all the same."
        )
    if is_worse:
        log.warning("promoted by force: %s", verdict)
    return verdict


def _versions(model: ModelFolder) -> str:
    return ", ".join(model.versions()) or "none"


def rollback(model: ModelFolder) -> str:
    """Make the previous champion champion again; return its version.

    Raises:
        PackageError: there is no previous champion, or its package is damaged.
    """
    _require(model)
    with files.locked(model.lock, f"model {model.name}", patience_s=60):
        now = champion_version(model)
        before = _line_of_champions(model, now)[-2:-1]
        if now is None or not before:
            raise PackageError(
                f"model {model.name!r} has no champion before {now or 'any'}: there is nothing to roll back to."
            )
        load_package(model.version(before[0]))
        _set_champion(model, now, before[0], "rollback", force=False)
    log.info("champion of %s: version %s again, instead of %s", model.name, before[0], now)
    return before[0]


def _require(model: ModelFolder) -> None:
    if not model.path.is_dir():
        models = model.path.parent
        names = ", ".join(folder.name for folder in model_folders(models) if folder.versions()) or "none"
        raise PackageError(f"there is no model {model.name!r} in {str(models)!r}; models there: {names}.")


def _require_version(model: ModelFolder, version: str) -> None:
    if version not in model.versions():
        raise PackageError(f"model {model.name!r} has no version {version!r}; it has {_versions(model)}.")


def _set_champion(model: ModelFolder, before: str | None, version: str, why: str, *, force: bool) -> None:
    event = {"at": files.now(), "from": before, "to": version, "why": why, "force": force}
    history = _or_none(promotions, model, force=force) or []
    verified.write_json(model.promotions, {"promotions": [*history, event]})
    verified.write_text(model.champion, version + "\n")


def promotions(model: ModelFolder) -> list[dict[str, Any]]:
    """Return every change of champion, oldest first: at, from, to, why, force."""
    return verified.read_json(model.promotions)["promotions"] if verified.exists(model.promotions) else []


def _line_of_champions(model: ModelFolder, now: str | None) -> list[str]:
    """Return the champions up to the current one, oldest first; a rollback removes the last.

    An event whose process died before it moved the pointer is skipped: the next event starts from another champion.
    """
    line: list[str] = []
    events = promotions(model)
    if not events:
        return []
    for event, following in zip(events, [*(e["from"] for e in events[1:]), now], strict=True):
        if event["to"] != following:
            continue
        line = line[:-1] if event["why"] == "rollback" else [*line, event["to"]]
    return line


def _compare_with(champion: PackageFolder, challenger: Package) -> tuple[str, bool]:
    try:
        before = load_package(champion)
        verdict, is_worse = compare(before, challenger)
        return verdict + _other_thresholds(before, challenger), is_worse
    except PackageError as error:
        return f"it cannot be compared with the champion: {error}", True


def _other_thresholds(champion: Package, challenger: Package) -> str:
    """Return where the thresholds of both come from, if not from the same."""
    before, after = (describe_origin(package.facts) for package in (champion, challenger))
    return "" if before == after else f"; its thresholds: {after}; the champion's: {before}"


def model_folders(models: Path) -> list[ModelFolder]:
    """Return the folders that may be models, by name."""
    paths = sorted(path for path in models.glob("*") if path.is_dir() and not path.name.startswith("."))
    return [ModelFolder(path.resolve()) for path in paths]


def list_models(models: Path) -> pd.DataFrame:
    """Return one row per version of every model, the oldest version first; copies are left out, with a warning.

    Columns: name, version, champion (whether it is), run, made_at, trainable, size, n_images, roc_auc (pooled, in
    percent), thresholds (where they come from).
    """
    files.require_local("--models", models)
    rows = [
        row
        for model in model_folders(models)
        for version in model.versions()
        if (row := _row(model, version)) is not None
    ]
    columns = ["name", "version", "champion", "run", "made_at", "trainable", "size", "n_images", "roc_auc"]
    columns += ["thresholds"]
    return pd.DataFrame(rows, columns=columns).astype({"roc_auc": float})


def _row(model: ModelFolder, version: str) -> dict[str, object] | None:
    """Return the facts of a version; None if it is the copy of another."""
    facts = verified.read_record(model.version(version).description)
    try:
        require_own_name(model.version(version), facts)
    except PackageError as error:
        log.warning("left out: %s", error)
        return None
    return {
        "name": model.name,
        "version": version,
        "champion": version == champion_version(model),
        "run": facts["run_id"],
        "made_at": facts["made_at"],
        "trainable": facts["trainable"],
        "size": facts["size"],
        "n_images": facts["n_images"],
        "roc_auc": next((row["pooled"] for row in facts["metrics"] if row["metric"].endswith("roc_auc")), None),
        "thresholds": describe_origin(facts),
    }
