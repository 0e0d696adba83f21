"""The tables that follow from the ledger and the scores, made anew each time."""

import logging

import pandas as pd

from cxr.classes import Classes
from cxr.feedback.ledger import current, read_ledger
from cxr.feedback.looks import looks_table
from cxr.feedback.performance import labelled_images, performance_table
from cxr.feedback.promises import promises_of
from cxr.feedback.verdicts import verdicts_table
from cxr.storage import files
from cxr.storage.model_folder import ModelFolder
from cxr.storage.scores_folder import FeedbackFolder

log = logging.getLogger(__name__)


def judge(folder: FeedbackFolder, model: ModelFolder, scored: pd.DataFrame, classes: Classes) -> pd.DataFrame:
    """Write the tables of performance, looks and verdicts, and log each verdict; return the labelled images.

    Args:
        folder: has the ledger, and gets the tables.
        model: its packages say what they promise.
        scored: the images that any version has scored, as `read_scored` returns them.
        classes: of the model.
    """
    ledger = read_ledger(folder)
    images = labelled_images(scored, current(ledger))
    performance = performance_table(images, classes)
    promises = promises_of(model, sorted(images["model_version"].unique(), key=int), classes)
    looks = looks_table(images, classes, promises)
    first = ledger.drop_duplicates("entry")
    entered = dict(zip(first["entry"].tolist(), first["given_at"].tolist(), strict=True))
    verdicts = verdicts_table(images, performance, looks, promises, entered, files.now())
    files.write_table(folder.performance, performance)
    files.write_table(folder.looks, looks)
    files.write_table(folder.verdicts, verdicts)
    for row in verdicts.to_dict("records"):
        level = logging.ERROR if row["verdict"] == "surely below" else logging.INFO
        where = (model.name, row["model_version"], row["class"])
        log.log(level, "feedback: %s version %s, %s: %s", *where, row["verdict"])
    return images
