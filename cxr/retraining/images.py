"""The images of the champion's data set, and those that were labelled since: where each lies, and what it shows.

A label that came later counts for an image that is not in the data set; of one that is, the data set's own counts.
Patients are the keyed hashes of their ids, whether a table or a DICOM file has said them, so that a patient is the same
in both.
"""

import logging
import re
from pathlib import Path

import pandas as pd

from cxr.classes import Classes
from cxr.dataset.listing.file_kinds import kind_of
from cxr.dataset.listing.layout import list_images
from cxr.errors import DataError
from cxr.feedback.ledger import current, read_ledger
from cxr.feedback.scored import inboxes_of, read_scored
from cxr.images.image_table import COLUMNS
from cxr.images.inbox import LOOSE
from cxr.images.reading import image_id_of
from cxr.images.source import Source, open_source
from cxr.storage import verified
from cxr.storage.scores_folder import ScoresFolder
from cxr.training.run import Run

log = logging.getLogger(__name__)

HASHED = re.compile(r"^(?:table|dicom)-(?=[0-9a-f]{16}$)")
"""What says where a keyed hash is from; the hash of an id is the same for both."""
FROM_DATA, FROM_FEEDBACK = "data", "feedback"


def images_of_run(run: Run) -> pd.DataFrame:
    """Return the readable images of a run's data set; of a run that was retrained, those of the first.

    Columns: those of `cxr.images.image_table`, label, patient_id (None where unknown), split, origin.

    Raises:
        DataError: the data set is gone.
    """
    if verified.exists(run.folder.retraining.images):
        table = verified.read_table(run.folder.retraining.images)
        return table[table["origin"] == FROM_DATA].drop(columns=["group_id", "is_set_aside"]).reset_index(drop=True)
    manifest = verified.read_table(run.folder.manifest)
    readable = manifest[manifest["status"] != "unreadable"]
    keys = readable["path"]
    if not run.config.reads_tables:
        listing = list_images(open_source(run.config.data), run.config.class_folder)
        keys = keys.map({image.path: image.key for image in listing.images})
    if keys.isna().any():
        raise DataError(
            f"{int(keys.isna().sum()):,} images of run {run.folder.run_id!r} are gone from {run.config.data!r}: put "
            "them back."
        )
    facts = readable[["image_id", "n_bytes", "label", "split"]]
    named = {"path": f"{FROM_DATA}/" + readable["path"], "place": run.config.data, "file": keys, "origin": FROM_DATA}
    return facts.assign(**named, patient_id=patients(readable["patient_id"])).reset_index(drop=True)


def patients(ids: pd.Series) -> pd.Series:
    """Return the ids of patients, alike whether a table or a DICOM file has said them."""
    return ids.str.replace(HASHED, "", regex=True).astype("str")


def require_labels(scores: ScoresFolder, name: str) -> pd.DataFrame:
    """Return what is said last of each image of a model; raise DataError if nothing is."""
    labels = current(read_ledger(scores.feedback(name)))
    if labels.empty:
        raise DataError(f"no image that {name!r} has scored has a label yet: `cxr feedback LABELS --name {name}`.")
    return labels


def labelled_since(scores: ScoresFolder, name: str, classes: Classes) -> pd.DataFrame:
    """Return the scored images that have a label by now and lie in an inbox as they were scored.

    Columns: as for `images_of_run`.

    Args:
        scores: where the scores and the labels are.
        name: of the model.
        classes: of its champion.

    Raises:
        DataError: nothing is labelled, or nothing of it is there any more.
    """
    labels = require_labels(scores, name)
    scored = read_scored(scores, name, classes).drop_duplicates("image_id")
    known = scored.merge(labels[["image_id", "label", "patient_id"]], on="image_id")
    known = known[known["label"].isin(classes)]
    file = known["path"].where(known["batch"] == LOOSE, known["batch"] + "/" + known["path"])
    named = {"path": f"{FROM_FEEDBACK}/" + file, "file": file, "split": None, "origin": FROM_FEEDBACK}
    images = known.assign(**named, patient_id=patients(known["patient_id"]))
    place = _places(scores, images)
    n_gone = int(place.isna().sum())
    if n_gone == len(images):
        raise DataError(f"none of the {n_gone:,} labelled images lies in the inbox as it was scored: put them back.")
    if n_gone:
        log.warning("retrain: %d labelled images are gone from the inbox, or are other files now: left out", n_gone)
    there = images.assign(place=place)[place.notna()]
    return there[[*COLUMNS, "label", "patient_id", "split", "origin"]].reset_index(drop=True)


def _places(scores: ScoresFolder, images: pd.DataFrame) -> pd.Series:
    """Return the inbox in which each image lies as it was scored, the latest first; missing where there is none."""
    found: dict[str, str] = {}
    for inbox in dict.fromkeys(map(str, inboxes_of(scores))):
        if not Path(inbox).is_dir():
            continue
        source = open_source(inbox)
        for file, image_id in zip(images["file"], images["image_id"], strict=True):
            if image_id not in found and _is_there(source, file, image_id):
                found[image_id] = inbox
    return images["image_id"].map(found).astype("str")


def _is_there(source: Source, file: str, image_id: str) -> bool:
    """Return whether a source has an image as it was scored, and it would be read as an image of a data set."""
    try:
        return image_id_of(source.read(file)) == image_id and kind_of(file, source) is None
    except (KeyError, OSError):
        return False
