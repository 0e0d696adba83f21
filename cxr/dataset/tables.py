"""The tables of an examined data set: manifest, near-duplicates, folds with their certificate, and `data.json`."""

import logging
from typing import Any

import pandas as pd

from cxr.classes import Classes, Findings
from cxr.config import DataConfig
from cxr.dataset.folds import assign_folds, certify
from cxr.dataset.listing.labels import class_names
from cxr.dataset.listing.layout import Listing, count_kinds, left_aside_table
from cxr.dataset.manifest import count_identical, count_images, data_hash
from cxr.errors import DataError, FoldError, RunError
from cxr.labels.resolution import Resolved
from cxr.storage import verified
from cxr.storage.run_folder import RunFolder

log = logging.getLogger(__name__)


def assign_and_write(
    config: DataConfig,
    folder: RunFolder,
    manifest: pd.DataFrame,
    near_duplicates: pd.DataFrame,
    listing: Listing,
    resolved: Resolved | None,
) -> None:
    """Assign folds if the data allow it; write all tables, and the reason where there are no folds.

    Args:
        config: names the data set and how it is split into folds.
        folder: gets the tables.
        manifest: a row for each image.
        near_duplicates: pairs of images.
        listing: the images and what was left aside.
        resolved: what tables of labels say; None if labels are folders.
    """
    facts = _facts(config, manifest, listing, resolved)
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
    write_identity(folder)
    verified.write_table(folder.left_aside, left_aside_table(listing.left_aside))
    _write(folder, manifest, near_duplicates, folds, certificate, facts)


def _facts(config: DataConfig, manifest: pd.DataFrame, listing: Listing, resolved: Resolved | None) -> dict[str, Any]:
    """Return `data.json` before folds are assigned."""
    return {
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


def write_identity(folder: RunFolder) -> None:
    """Write the run's id into its folder, unless it is there."""
    if not folder.identity.exists():
        verified.write_text(folder.identity, folder.run_id + "\n")


def _folder_names(folders: list[str]) -> set[str]:
    return {folder.rpartition("/")[2] for folder in folders}


def require_same_images(folder: RunFolder, current: str) -> None:
    """Raise RunError unless a run was begun with the images that have this hash."""
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
