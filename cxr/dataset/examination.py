"""The images of a run, examined before anything is trained on them.

`examine` reads every image once and writes the manifest, the candidates for near-duplicates, the folds and their
leakage certificate into the run's folder. A data set that cannot be split into folds still gets a manifest, so that the
data checks can show what is wrong with it.
"""

import dataclasses
import logging
from pathlib import Path

import pandas as pd

from cxr.classes import Classes, Findings
from cxr.config import DataConfig
from cxr.dataset.folds import assign_folds, certify
from cxr.dataset.known_patients import log_patients, with_pattern_found
from cxr.dataset.listing.labelled import list_data_set, require_folds
from cxr.dataset.listing.labels import class_names, require_labels, require_trainable
from cxr.dataset.listing.layout import Listing, count_kinds, left_aside_table, log_left_aside
from cxr.dataset.manifest import build_manifest, count_identical, count_images, data_hash
from cxr.dataset.near_duplicates import find_near_duplicates
from cxr.dataset.pictures import squares_of
from cxr.errors import DataError, FoldError, RunError
from cxr.images.decoding import DECODED_PX
from cxr.images.source import Source, open_source
from cxr.images.vitals import open_vitals
from cxr.labels.resolution import Resolved
from cxr.storage import events, files, verified
from cxr.storage.run_folder import RunFolder

log = logging.getLogger(__name__)


def examine(
    config: DataConfig, folder: RunFolder, *, cache: Path, size: int | None = None, is_test_set: bool = False
) -> None:
    """Read the images and write their tables; for a run that has begun, check that the images are the same.

    Args:
        config: names the data set and how it is split into folds.
        folder: gets the tables.
        cache: gets decoded images and their vital signs.
        size: side of the squares to prepare for training, in pixels; None for no squares.
        ConfigError: the positive class, a class folder, the holdout or an option about tables of labels does not fit
            the data, or the cache is a URL; nothing is written.
        DataError: no images are found, a folder is hardly a class, two classes are spelt almost alike, or a table of
            labels contradicts the data; nothing is written.
        FoldError: a class has fewer images or patients than there are folds; nothing is written.
        RunError: the run was begun with other images.
    """
    files.require_local("--cache", cache)
    with events.stage(folder.events, "examine") as stage:
        source = open_source(config.data)
        listing, resolved = _list(source, config, folder, cache, is_test_set=is_test_set)
        findings = None if resolved is None else resolved.findings
        manifest = build_manifest(source, listing, config, cache, size, findings)
        stage.n_images = len(manifest)
        with_pattern = with_pattern_found(config, [image.path for image in listing.images])
        _log_images(manifest, listing)
        log_patients(manifest, with_pattern.patient_pattern)
        if folder.has_begun:
            _require_same_images(folder, data_hash(manifest, resolved))
            _write_identity(folder)
        else:
            read_square = squares_of(source, listing, config, DECODED_PX)
            near_duplicates = find_near_duplicates(manifest, open_vitals(cache), read_square)
            _assign_and_write(with_pattern, folder, manifest, near_duplicates, listing, resolved)


def require_examinable(source: Source, config: DataConfig, folder: RunFolder, cache: Path) -> None:
    """Check all that can be known of a data set before an image is read: names of files, folders, classes and columns.

    Raises:
        CxrError: as `examine` would; nothing is written.
    """
    files.require_local("--cache", cache)
    _list(source, config, folder, cache)


def _list(
    source: Source, config: DataConfig, folder: RunFolder, cache: Path, *, is_test_set: bool = False
) -> tuple[Listing, Resolved | None]:
    """Return the images, and what tables of labels say of them, if both fit the config."""
    listing, resolved = _list_again(source, config, folder, cache)
    if folder.has_begun or is_test_set:
        require_labels(listing, config)
    elif resolved is None:
        require_trainable(listing, config)
    else:
        require_labels(listing, config)
        require_folds(resolved, config)
    return listing, resolved


def _list_again(source: Source, config: DataConfig, folder: RunFolder, cache: Path) -> tuple[Listing, Resolved | None]:
    """Return the images; those that a run left aside when it began stay so, whatever formats are read by now."""
    listing, resolved = list_data_set(source, config, cache)
    if not (folder.has_begun and verified.exists(folder.left_aside)):
        return listing, resolved
    before = set(verified.read_table(folder.left_aside)["path"])
    kept = [image for image in listing.images if image.key not in before]
    return dataclasses.replace(listing, images=kept), resolved


def _assign_and_write(
    config: DataConfig,
    folder: RunFolder,
    manifest: pd.DataFrame,
    near_duplicates: pd.DataFrame,
    listing: Listing,
    resolved: Resolved | None,
) -> None:
    """Assign folds if the data allow it; write all tables, and the reason where there are no folds."""
    facts = {
        "data": config.data,
        "data_hash": data_hash(manifest, resolved),
        "images": count_images(manifest),
        "identical": count_identical(manifest),
        "left_aside": count_kinds(listing.left_aside),
        "patient_pattern": config.patient_pattern,
        "class_folders": sorted(
            {image.class_folder for image in listing.images} | _folder_names(listing.empty_folders)
        ),
        "empty_folders": listing.empty_folders,
        "classes": None,
        "no_folds_because": None,
    }
    if resolved is not None:
        facts["labels"] = {"tables": resolved.tables, "sha256": resolved.sha256}
        verified.write_table(folder.labels, resolved.images.rename_axis("path").reset_index())
    folds = certificate = None
    try:
        facts["classes"] = outputs = outputs_in(manifest, config)
        folds = assign_folds(manifest, near_duplicates, config)
        _require_classes(outputs, folds)
        certificate = certify(manifest, near_duplicates, folds, config)
        log.info(
            "folds: %d of %d images in %d groups from %d patient ids; none crosses folds",
            config.folds,
            certificate["n_images"],
            certificate["n_groups"],
            certificate["n_patient_ids"],
        )
    except (DataError, FoldError) as error:
        facts["no_folds_because"] = str(error)
    _write_identity(folder)
    verified.write_table(folder.left_aside, left_aside_table(listing.left_aside))
    _write(folder, manifest, near_duplicates, folds, certificate, facts)


def outputs_in(manifest: pd.DataFrame, config: DataConfig) -> Classes | Findings:
    """Return the classes or the findings of a data set, in output order.

    Raises:
        CxrError: as for `class_names`, or for `Findings.of_columns`.
    """
    if config.has_findings:
        return Findings.of_columns(manifest.columns)
    return Classes(class_names(manifest, config))


def _write(
    folder: RunFolder,
    manifest: pd.DataFrame,
    near_duplicates: pd.DataFrame,
    folds: pd.DataFrame | None,
    certificate: dict | None,
    facts: dict,
) -> None:
    verified.write_table(folder.manifest, manifest)
    verified.write_table(folder.near_duplicates, near_duplicates)
    verified.write_json(folder.data, facts)
    if folds is None:
        verified.remove(folder.folds, folder.certificate)
    else:
        verified.write_table(folder.folds, folds)
        verified.write_json(folder.certificate, certificate)


def _write_identity(folder: RunFolder) -> None:
    if not folder.identity.exists():
        verified.write_text(folder.identity, folder.run_id + "\n")


def _folder_names(folders: list[str]) -> set[str]:
    return {folder.rpartition("/")[2] for folder in folders}


def _log_images(manifest: pd.DataFrame, listing: Listing) -> None:
    log.info("images: %s", " → ".join(f"{n:,} {name}" for name, n in count_images(manifest).items()))
    for row in manifest[manifest["status"] == "unreadable"].head(20).itertuples():
        log.warning("unreadable: %s (%s)", row.path, row.reason)
    log_left_aside(listing)


def _require_same_images(folder: RunFolder, current: str) -> None:
    before = verified.read_record(folder.config)["identity"]["data"]
    if before != current:
        raise RunError(
            f"run {folder.run_id!r} was begun with other images: data {before!r} → {current!r}. "
            "Give the same images, or another --run-id."
        )


def _require_classes(outputs: Classes | Findings, folds: pd.DataFrame) -> None:
    missing = sorted(set(outputs) - set(folds["label"])) if isinstance(outputs, Classes) else []
    if missing:
        raise FoldError(
            f"class {missing[0]!r} has images only in the holdout: give no --holdout, or add images of that class."
        )
