"""The ledger of labels: entered once, never changed. A correction is a later entry, and what was said before stays.

Each entry is one file, written whole or not at all, so a process that is killed has entered all of a table or nothing.
The number of the entry is the order; clocks may be set back.
"""

import hashlib

import pandas as pd

from cxr.feedback.labels import Given
from cxr.storage import files
from cxr.storage.scores_folder import FeedbackFolder

COLUMNS = {
    "entry": "int64",
    "image_id": "str",
    "label": "str",
    "patient_id": "str",
    "given_by": "str",
    "given_at": "datetime64[us, UTC]",
    "source": "str",
    "source_sha256": "str",
}


def read_ledger(folder: FeedbackFolder) -> pd.DataFrame:
    """Return every row that was ever entered, in order, with COLUMNS."""
    parts = [files.read_table(part) for part in folder.all_labels()]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(COLUMNS)).astype(COLUMNS)


def digest(folder: FeedbackFolder) -> str:
    """Return a hash of all that was ever entered, in hexadecimal."""
    parts = [files.sha256_of(part) for part in folder.all_labels()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def current(ledger: pd.DataFrame) -> pd.DataFrame:
    """Return what is said last of each image, with the number of its first entry as the column `first_entry`."""
    first = ledger.groupby("image_id")["entry"].min().rename("first_entry")
    return ledger.drop_duplicates("image_id", keep="last").join(first, on="image_id").reset_index(drop=True)


def enter(folder: FeedbackFolder, given: Given, by: str) -> tuple[int, int]:
    """Enter what tables say that the ledger does not; return how many labels are new, and how many are corrections.

    A patient who is not named again is the one that was. Hold the lock of the folder while you call this.

    Args:
        folder: of the ledger.
        given: the labels.
        by: who gives them.
    """
    before = current(read_ledger(folder)).set_index("image_id")
    known = given.rows.join(before[["label", "patient_id"]].add_suffix("_before"), on="image_id")
    rows = known.assign(patient_id=known["patient_id"].fillna(known["patient_id_before"]))
    is_new = ~rows["image_id"].isin(before.index)
    is_other = (rows["label"] != rows["label_before"]) | (
        rows["patient_id"].fillna("") != rows["patient_id_before"].fillna("")
    )
    is_correction = ~is_new & is_other
    entered = rows[is_new | is_correction]
    if len(entered):
        entry = folder.next_entry()
        facts = {"given_by": by, "given_at": pd.Timestamp(files.now()), "source": given.source}
        table = entered.assign(entry=entry, **facts, source_sha256=given.sha256)
        files.write_table(folder.labels(entry), table[list(COLUMNS)].astype(COLUMNS))
    return int(is_new.sum()), int(is_correction.sum())
