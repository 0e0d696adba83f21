"""What is trained: the champion's recipe on its own images and those labelled since, less the part that is set aside.

The enlarged data set is a table of images, which is also its table of labels. Its run is named by what is in it, so the
same labels and options lead to the same run, which goes on where it was killed.
"""

import dataclasses
import hashlib
import json
import logging
from dataclasses import dataclass
from typing import Any

import pandas as pd

from cxr.classes import Classes
from cxr.config import RetrainConfig, RunLocation, TrainConfig
from cxr.dataset.tables import write_identity
from cxr.errors import RunError
from cxr.labelling import Labelling
from cxr.retraining.champion import images_met, require_possible
from cxr.retraining.images import FROM_FEEDBACK, images_of_run, labelled_since
from cxr.retraining.set_aside import are_set_aside, require_enough, with_groups
from cxr.serving.package import Package
from cxr.storage import files, verified
from cxr.storage.run_folder import RunFolder
from cxr.storage.scores_folder import ScoresFolder

log = logging.getLogger(__name__)

SET_ASIDE = "set_aside"
"""The split of the images that neither model is trained on, unless the champion's run has a holdout of its own."""
COLUMNS = ["path", "place", "file", "image_id", "n_bytes", "label", "patient_id", "split"]
COLUMNS += ["origin", "group_id", "is_set_aside"]


@dataclass(frozen=True)
class Plan:
    """A training that can begin."""

    champion: Package
    config: TrainConfig
    folder: RunFolder
    """Of its run; it holds the table of images."""

    @property
    def images(self) -> str:
        """The hash of the table of images: versions that were retrained from the same table are the same."""
        return verified.sha256_of(self.folder.retraining.images)


def plan_retraining(config: RetrainConfig, location: RunLocation) -> Plan:
    """Write the table of images to train on, and return what is trained.

    Args:
        config: the model, the share to set aside, and where scores and labels are.
        location: where the champion's run is, and the new one goes; its cache is that of `cxr feedback`, which has the
            key of the patients' hashes.

    Raises:
        ConfigError: a folder is a URL.
        DataError: nothing is labelled, images are gone, or too few patients can be set aside; nothing is written.
        PackageError: there is no champion.
        RunError: the champion's run is not there, or a run of this id has other images.
        TaskError: the model predicts several findings per image.
    """
    champion, run = require_possible(config, location)
    classes, scores = champion.classes, ScoresFolder.at(config.out)
    table = _enlarged(images_of_run(run), labelled_since(scores, config.name, classes))
    images = with_groups(table, run.config, location.cache)
    trained = images_met(champion, scores)
    is_set_aside = are_set_aside(images, trained, config.share, run.config.seed)
    require_enough(images, is_set_aside, classes, config.share)
    holdout = run.config.holdout or SET_ASIDE
    images = images.assign(split=images["split"].mask(is_set_aside, holdout), is_set_aside=is_set_aside)
    return _written(
        champion, _on_table(run.config, classes, holdout), images[COLUMNS].astype({"split": "str"}), location
    )


def _enlarged(old: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """Return old and new images; of an image in both, the old row."""
    label = new["image_id"].map(old.drop_duplicates("image_id").set_index("image_id")["label"])
    if n_other := int((label.notna() & (label != new["label"])).sum()):
        log.warning("retrain: %d images have another label in the data set, which counts", n_other)
    added = new[label.isna()]
    log.info("retrain: %d images of the data set, and %d labelled since", len(old), len(added))
    return pd.concat([old, added], ignore_index=True)


def _on_table(config: TrainConfig, classes: Classes, holdout: str) -> TrainConfig:
    """Return the champion's config for a table of images with labels, which is still to be named."""
    of_table: dict[str, Any] = Labelling().labelling() | {
        "labels": ("data_set.parquet",),
        "path_column": "path",
        "label_column": "label",
        "patient_column": "patient_id",
        "split_column": "split",
        "holdout": holdout,
        "positive": classes.positive,
        "label_from": "folder",
        "class_folder": (),
    }
    return dataclasses.replace(config, **of_table)


def _written(champion: Package, config: TrainConfig, images: pd.DataFrame, location: RunLocation) -> Plan:
    """Write the table into the folder of the run that is named by it, unless it is there, and name it in the config."""
    fields = {name: value for name, value in config.as_dict().items() if name not in ("data", "labels")}
    digest = hashlib.sha256(json.dumps(fields, sort_keys=True).encode())
    digest.update(images.to_csv(index=False, lineterminator="\n").encode())
    folder = RunFolder.named(location.experiments, location.run_id or f"retrain-{digest.hexdigest()[:8]}")
    file = folder.retraining.images
    with files.locked(folder.lock, f"run {folder.run_id}"):
        if not verified.exists(file):
            write_identity(folder)  # which ties the files of the folder to the run
            verified.write_table(file, images)
        elif not verified.read_table(file).equals(images):
            raise RunError(
                f"run {folder.run_id!r} was begun with other labels or images: leave out --run-id, or give another."
            )
    counts = images[(images["origin"] == FROM_FEEDBACK)]["is_set_aside"].value_counts()
    log.info("retrain: %d newly labelled images to train on, %d set aside", counts[False], counts[True])
    named = dataclasses.replace(config, data=str(file), labels=(str(file),))
    return Plan(champion, named, folder)
