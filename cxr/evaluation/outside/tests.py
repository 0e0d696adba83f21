"""Tests on images outside cross-validation, predicted by the finished ensemble.

`--holdout test` keeps the archive's own test split out of everything: the held-out test set. An external test set comes
from elsewhere and is evaluated in the same way, without the images that the run was made from. How the images of
either are predicted, evaluated and recorded is in `openings`.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr.classes import Classes, Findings
from cxr.config import KAGGLE, DataConfig, TrainConfig
from cxr.dataset.examination import examine
from cxr.dataset.folds import group_images
from cxr.dataset.patients import elsewhere
from cxr.dataset.tables import outputs_in
from cxr.errors import DataError, RunError
from cxr.evaluation.outside.openings import open_test, weights_of
from cxr.images.vitals import are_same_image, fingerprint, fingerprint_bits
from cxr.labelling import LabelTables
from cxr.storage import files, verified
from cxr.storage.run_folder import OutsideTestFolder, RunFolder
from cxr.training.run import Run, require_complete


def open_held_out_test(run: Run) -> OutsideTestFolder:
    """Evaluate the held-out test set; return the folder of the results.

    Raises:
        RunError: the run holds no images out, or is not finished.
    """
    if run.config.holdout is None:
        raise RunError(
            f"run {run.folder.run_id!r} has no held-out test set: train one with --holdout test, "
            "which keeps that split out."
        )
    manifest = verified.read_table(run.folder.manifest)
    held_out = manifest[(manifest["split"] == run.config.holdout) & (manifest["status"] != "unreadable")]
    images = held_out.drop_duplicates("image_id", ignore_index=True)
    near = verified.read_table(run.folder.near_duplicates)
    images = images.assign(group_id=group_images(images, near))
    left_out = {"identical": len(held_out) - len(images)}
    return open_test(run, run.folder.held_out_test, images, run.squares(images), left_out)


def evaluate_external(run: Run, data: str, labelling: LabelTables | None = None) -> OutsideTestFolder:
    """Evaluate an external test set, without images that the run was made from; return the folder of the results.

    Args:
        run: finished.
        data: a folder or an archive laid out as for training, with the run's classes; or kaggle.
        labelling: the set's tables of labels; None if its labels are folders.

    Raises:
        ConfigError: the set lies in an object store, or an option about tables of labels does not fit it.
        DataError: the set has no images, only images that the run was made from, or other classes.
        RunError: the run is not finished.
    """
    files.require_local("--external", Path(data))
    require_complete(run)
    place = Path(data).expanduser().resolve() if data != KAGGLE else Path(KAGGLE)
    folder = run.folder.external_test(place)
    config = _config_of_set(run, str(place), labelling or LabelTables())
    examine(config, RunFolder(folder.path), cache=run.cache, size=run.config.size, is_test_set=True)
    manifest = verified.read_table(RunFolder(folder.path).manifest)
    _require_classes(manifest, config, run.outputs)
    readable = manifest[manifest["status"] != "unreadable"]
    images = readable.drop_duplicates("image_id", ignore_index=True)
    images = images.assign(group_id=group_images(images, verified.read_table(RunFolder(folder.path).near_duplicates)))
    squares = replace(run, config=config).squares(images)
    is_known = _are_known(run, images, squares)
    left_out = {"identical": len(readable) - len(images), "in_training": int(is_known.sum())}
    if is_known.all():
        raise DataError(
            f"all {len(images)} images of {data!r} were used to make run {run.folder.run_id!r}: give other images."
        )
    return open_test(run, folder, images[~is_known].reset_index(drop=True), squares[~is_known], left_out)


def _config_of_set(run: Run, data: str, labelling: LabelTables) -> TrainConfig:
    """Return the run's config with a set's data and tables in place of the run's own."""
    is_of_table = labelling.reads_tables and not run.config.has_findings
    positive = run.classes.positive if is_of_table else run.config.positive
    changed = {
        "data": data,
        "holdout": None,
        "positive": positive,
        "patient_pattern": elsewhere(run.config.patient_pattern),
    }
    return replace(run.config, **labelling.labelling() | changed)


def _require_classes(manifest: pd.DataFrame, config: DataConfig, outputs: Classes | Findings) -> None:
    found = outputs_in(manifest, config)
    if found != outputs:
        kind, way_out = ("findings", "columns") if isinstance(outputs, Findings) else ("classes", "folders")
        raise DataError(
            f"an external test set needs the run's {kind} {', '.join(outputs)}; {config.data!r} has "
            f"{', '.join(found)}: rename its {way_out}, or say which label is which class with --value."
        )


def _are_known(run: Run, images: pd.DataFrame, squares: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return whether the run was made from each image, shape (n,): from its bytes, or from a copy re-encoded."""
    training = run.images()
    bits, known = (
        fingerprint_bits([fingerprint(square) for square in part]) for part in (squares, run.squares(training))
    )
    return images["image_id"].isin(training["image_id"]).to_numpy() | are_same_image(bits, known)


def is_current(run: Run, folder: OutsideTestFolder) -> bool:
    """Return whether a test's results come from the weights that the run has now."""
    return verified.read_json(folder.openings)["openings"][-1]["weights"] == weights_of(run)
