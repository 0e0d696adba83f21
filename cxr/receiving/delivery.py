"""How a received file gets into an inbox: whole, once, under its SOP Instance UID.

It is written and flushed in a folder that no scoring run looks into (`RECEIVING`), and renamed. A killed process leaves
nothing but temporary files there, which the next one removes.

A scoring run leaves files that changed a moment ago for the next one (`settle`). Of a study that is a batch, every file
counts as changed when another comes, so that a study is scored once nothing of it has come for that long.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Literal

from cxr.images.inbox import RECEIVING
from cxr.receiving.instances import CANNOT_UNDERSTAND, Instance, RefusedError
from cxr.storage import files

BatchOf = Literal["day", "study"]


class Delivery:
    """Puts files into an inbox, one at a time.

    Args:
        inbox: made if it is missing.
        batch_of: a batch is what comes in a day, by this machine's clock, or a study.
    """

    def __init__(self, inbox: Path, batch_of: BatchOf) -> None:
        self._inbox = inbox
        self._batch_of: BatchOf = batch_of
        self._receiving = inbox / RECEIVING

    @contextmanager
    def open(self) -> Iterator[None]:
        """Hold the inbox for this process, and remove what a killed one has left half-written.

        Raises:
            RunError: another process receives into the inbox.
        """
        with files.locked(self._receiving / "lock", f"inbox {str(self._inbox)!r}"):
            files.sweep(self._receiving)
            yield

    def put(self, instance: Instance) -> None:
        """Write a file and flush it to the disk; it is left as it is if it is there already.

        Raises:
            RefusedError: another object with its UID is there, or its study has no UID to name a batch by.
            DiskFullError: no space is left.
            OSError: it cannot be written.
        """
        name, batch = f"{instance.uid}.dcm", self._batch(instance)
        before = self._find(name, batch)
        if before is None:
            files.deliver(batch / name, instance.data, through=self._receiving)
            if self._batch_of == "study":
                _count_as_changed(batch)
        elif before.read_bytes() != instance.data:
            raise RefusedError(CANNOT_UNDERSTAND, "another object with this SOP Instance UID is in the inbox")

    def _batch(self, instance: Instance) -> Path:
        if self._batch_of == "day":
            return self._inbox / date.today().isoformat()
        if instance.study_uid is None:
            raise RefusedError(CANNOT_UNDERSTAND, "StudyInstanceUID (0020,000D) is missing or no UID")
        return self._inbox / instance.study_uid

    def _find(self, name: str, batch: Path) -> Path | None:
        """Return the file of a name that came before; a sender may try again on the next day."""
        if self._batch_of == "study":
            folders = [batch]
        else:
            folders = [Path(entry.path) for entry in os.scandir(self._inbox) if entry.is_dir(follow_symlinks=False)]
        return next((path for folder in folders if (path := folder / name).exists()), None)


def _count_as_changed(batch: Path) -> None:
    """Let the files of a batch wait as if they had just come, without changing when their contents did."""
    for entry in os.scandir(batch):
        if entry.is_file(follow_symlinks=False):
            facts = entry.stat(follow_symlinks=False)
            os.utime(entry.path, ns=(facts.st_atime_ns, facts.st_mtime_ns), follow_symlinks=False)
