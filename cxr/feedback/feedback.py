"""From a table of labels to what it says of a model: entered, joined to the scores, and judged.

The ledger alone is kept; the other tables follow from it and the scores, and are made anew each time. A process that is
killed is made good by the same command: what was entered is not entered twice.
"""

import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd

from cxr.errors import RunError
from cxr.feedback.judgement import judge
from cxr.feedback.labels import Given, read_labels
from cxr.feedback.ledger import current, enter, read_ledger
from cxr.feedback.scored import ScoredFiles, inbox_of, read_scored
from cxr.images.dicom.patient import patient_key
from cxr.labelling import LabelTables
from cxr.serving.package import Package
from cxr.storage import events, files
from cxr.storage.model_folder import ModelFolder
from cxr.storage.scores_folder import FeedbackFolder, ScoresFolder

log = logging.getLogger(__name__)

PATIENCE_S = 60.0
"""How long to wait for another process that enters labels."""


@dataclass(frozen=True)
class Entered:
    """What became of the rows of a label table."""

    n_new: int
    """Images that had no label."""
    n_corrected: int
    """Images whose label or patient is another than before."""
    n_known: int
    """Images of which the same was said before."""
    n_unmatched: int
    """Values that name no scored image."""
    n_left_out: int
    """Labelled images, of all entries, that every version which scored them was made from."""

    @property
    def n_added(self) -> int:
        """How many rows were added to the ledger."""
        return self.n_new + self.n_corrected


def give_feedback(
    scores: ScoresFolder, model: ModelFolder, champion: Package, labelling: LabelTables, *, by: str, cache: Path
) -> Entered:
    """Enter labels of scored images, and judge each version of the model by all labels that were ever entered.

    Args:
        scores: where the scores are, and the labels go.
        model: the model.
        champion: its champion, which says what the classes are.
        labelling: the tables of labels, as for training.
        by: who gives them.
        cache: keeps the key of the patients' hashes.

    Raises:
        ConfigError: no table is given, a path is not usable, or an option leaves open what has to be said.
        DataError: nothing is scored, or the tables are not usable.
        RunError: the scores are not there, or another process enters labels.
        TaskError: the model has several findings per image.
    """
    files.require_local("--out", scores.path)
    if not scores.path.is_dir():
        raise RunError(f"there are no scores in {str(scores.path)!r}: score some images first, or give --out.")
    classes = champion.classes
    folder = scores.feedback(model.name)
    locked = files.locked(folder.lock, f"feedback on {model.name!r}", patience_s=PATIENCE_S)
    with locked, events.stage(folder.events, "feedback") as stage:
        files.sweep(folder.path)
        scored = read_scored(scores, model.name, classes)
        source = ScoredFiles(inbox_of(scores), scored)
        given = read_labels(labelling, scored, source, classes, partial(patient_key, cache))
        n_new, n_corrected = enter(folder, given, by)
        stage.n_images = len(given.rows)
        images = judge(folder, model, scored, classes)
        _write_unmatched(folder, given)
    labelled = scored["image_id"].isin(current(read_ledger(folder))["image_id"])
    n_left_out = scored.loc[labelled, "image_id"].nunique() - images["image_id"].nunique()
    n_known = len(given.rows) - n_new - n_corrected
    return Entered(n_new, n_corrected, n_known, len(given.unmatched), n_left_out)


def _write_unmatched(folder: FeedbackFolder, given: Given) -> None:
    """Write which rows of the last table name no scored image, and say how many there are."""
    table = pd.DataFrame({"value": given.unmatched, "source": given.source}).astype("str")
    files.write_table(folder.unmatched, table)
    if len(table):
        first = table["value"].iloc[0]
        log.warning("feedback: %d rows name no scored image, such as %r: see %s", len(table), first, folder.unmatched)
