"""The published scores of a model, as what labels are joined to."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow.compute as pc

from cxr.classes import Classes
from cxr.errors import DataError, UnreadableError
from cxr.images.inbox import LOOSE, read_arrival, single_file
from cxr.images.reading import image_id_of
from cxr.storage import files
from cxr.storage.scores_folder import ScoresFolder

log = logging.getLogger(__name__)


class ScoredFiles:
    """The files behind the scores, as a source: they are looked up in the inbox of the latest scoring run.

    Args:
        inbox: of that run; None if no run has left a record.
        rows: columns key, batch, path, image_id and n_bytes.
    """

    def __init__(self, inbox: Path | None, rows: pd.DataFrame) -> None:
        self._inbox = inbox
        first = rows.drop_duplicates("key").set_index("key")
        self._rows = first[["batch", "path", "image_id", "n_bytes"]].to_dict("index")

    def sizes(self) -> dict[str, int]:
        """Return each file's key and size in bytes."""
        return {str(key): int(row["n_bytes"]) for key, row in self._rows.items()}

    def empty_folders(self) -> list[str]:
        """Return none: only scored images are known."""
        return []

    def read(self, path: str) -> bytes:
        """Return the bytes of the image with this key.

        Raises:
            UnreadableError: it cannot be read, is another file now or none, or the inbox is unknown.
        """
        if self._inbox is None:
            raise UnreadableError("unreadable", "no scoring run says where its inbox is")
        row = self._rows[path]
        batch = self._inbox if row["batch"] == LOOSE else self._inbox / row["batch"]
        data = read_arrival(single_file(batch / row["path"]))
        if image_id_of(data) != row["image_id"]:
            raise UnreadableError("changed_while_read", "it is another file now")
        return data

    def head(self, path: str, n_bytes: int) -> bytes:
        """Return the first bytes of the image with this key; it raises what `read` raises."""
        return self.read(path)[:n_bytes]


def read_scored(folder: ScoresFolder, name: str, classes: Classes) -> pd.DataFrame:
    """Return the published scores of a model, one row for each version and image, ordered by time.

    Columns: key (batch/path, or path in the batch `.`), batch, path, image_id, model_version, in_training, n_bytes,
    predicted_label, probability_<class>, scored_at. An image that a version has scored under several names has the
    first of them. Rows of versions with other classes are left out, with a line in the log.

    Args:
        folder: of the scores.
        name: of the model.
        classes: of its champion.

    Raises:
        DataError: nothing of the model is published.
    """
    is_image = (pc.field("model") == name) & (pc.field("status") == "ok")
    parts = [files.read_table(part, filters=is_image) for batch in folder.all_published() for part in batch.parts()]
    rows = pd.concat([part for part in parts if len(part)] or [pd.DataFrame()], ignore_index=True)
    if rows.empty:
        raise DataError(f"no image that {name!r} has scored is published in {str(folder.path)!r}: score some first.")
    columns = ["batch", "path", "image_id", "model_version", "in_training", "n_bytes", "predicted_label"]
    rows = rows.reindex(columns=[*columns, *classes.probability_columns, "scored_at"])
    has_classes = rows[classes.probability_columns].notna().all(axis=1) & rows["predicted_label"].isin(classes)
    if not has_classes.all():
        log.warning("feedback: %d scores are of versions with other classes: left out", (~has_classes).sum())
    rows = rows[has_classes].sort_values(["scored_at", "batch", "path"], ignore_index=True)
    key = rows["path"].where(rows["batch"] == LOOSE, rows["batch"] + "/" + rows["path"])
    return rows.assign(key=key)


def inboxes_of(folder: ScoresFolder) -> Iterator[Path]:
    """Yield the inbox of each scoring run that has left a record, that of the latest first."""
    for run in folder.scoring_runs():
        yield Path(files.read_record(run.record)["inbox"])


def inbox_of(folder: ScoresFolder) -> Path | None:
    """Return the inbox of the latest scoring run; None if no run has left a record."""
    return next(inboxes_of(folder), None)
