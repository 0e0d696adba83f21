"""New images in a folder that belongs to others: looked at, never touched.

A batch is a folder directly under the inbox, with everything below it; files that lie in the inbox itself
are the batch called `.`. Every file has its say, whatever it is called: what is no image is refused with a
reason, by the reading or before it. Links are followed to files inside the inbox and nowhere else.
A file that changed a moment ago may still be being copied and waits for the next time.
"""

import errno
import os
import stat
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cxr.errors import DataError, Reason, UnreadableError
from cxr.images.source import MAX_IMAGE_BYTES, litter, printable

LOOSE = "."
"""The batch of the files that lie in no folder."""
CLOCK_SLACK_S = 5.0


@dataclass(frozen=True)
class Arrival:
    """A file in a batch; what it holds is not known yet."""

    path: str
    """Relative to the batch's folder, POSIX, valid Unicode."""
    file: str
    """Its path on disk, as the file system spells it."""
    n_bytes: int
    changed_ns: int
    """When its content last changed, in ns since 1970."""
    refused: UnreadableError | None = None
    """Why it is no image, where that shows without opening it."""


@dataclass(frozen=True)
class Batch:
    """What lies in a batch's folder."""

    name: str
    arrivals: list[Arrival]
    """By path."""
    n_waiting: int
    """Files that changed too short a time ago."""
    left_aside: dict[str, int]
    """How many files of which kind Finder or Windows left."""


def batch_names(inbox: Path) -> dict[str, str]:
    """Return each batch's name and its folder on disk, by name.

    Raises:
        DataError: the inbox is no folder that can be listed.
    """
    try:
        entries = sorted(os.scandir(inbox), key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"the inbox {str(inbox)!r} cannot be listed ({error.strerror}): give a folder.") from error
    folders = {printable(Path(e.name)): e.path for e in entries if e.is_dir(follow_symlinks=False)}
    is_loose = any(not entry.is_dir(follow_symlinks=False) for entry in entries)
    return ({LOOSE: str(inbox)} if is_loose else {}) | folders


def list_batch(inbox: Path, name: str, folder: str, settle_s: float) -> Batch:
    """Return what lies in a batch's folder.

    Args:
        settle_s: a file that changed more recently, in seconds, waits.
    """
    root, now = os.path.realpath(inbox), time.time()
    arrivals: list[Arrival] = []
    left_aside: Counter[str] = Counter()
    n_waiting = 0
    for file, refused in _walk(folder, deeply=name != LOOSE):
        path = Path(file).relative_to(folder)
        if refused:
            arrivals.append(Arrival(printable(path), file, 0, 0, refused))
        elif kind := litter(path):
            left_aside[kind] += 1
        elif (arrival := _arrival(file, printable(path), root, now - settle_s)) is not None:
            arrivals.append(arrival)
        else:
            n_waiting += 1
    return Batch(name, sorted(arrivals, key=lambda a: a.path), n_waiting, dict(left_aside))


def _walk(folder: str, *, deeply: bool) -> Iterator[tuple[str, UnreadableError | None]]:
    """Yield every file under a folder, and every folder that cannot be listed, with the reason."""
    pending = [folder]
    while pending:
        here = pending.pop()
        try:
            entries = list(os.scandir(here))
        except FileNotFoundError:  # taken away since
            continue
        except OSError as error:
            yield here, _refusal(error)
            continue
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False):
                yield entry.path, None
            elif deeply:
                pending.append(entry.path)


def _refusal(error: OSError) -> UnreadableError:
    reason: Reason = "permission_denied" if isinstance(error, PermissionError) else "unreadable"
    return UnreadableError(reason, str(error.strerror))


def _arrival(file: str, path: str, root: str, settled_before: float) -> Arrival | None:
    """Return a file, with the reason if it cannot be an image; None if it, or what it links to, changed just now."""
    try:
        own = facts = os.lstat(file)
        target = file
        if stat.S_ISLNK(own.st_mode):
            target = os.path.realpath(file, strict=True)
            facts = os.lstat(target)
    except PermissionError as error:
        return Arrival(path, file, 0, 0, _refusal(error))
    except OSError as error:  # a link to nothing, or in a circle; or taken away since, which reading will show
        return Arrival(path, file, 0, 0, UnreadableError("broken_link", str(error.strerror)))
    if any(_changed_after(settled_before, one) for one in (own, facts)):
        return None
    refused = None
    if os.path.commonpath([root, os.path.realpath(target)]) != root:
        refused = UnreadableError("link_leaves_inbox", "a link to a file outside the inbox")
    elif stat.S_ISDIR(facts.st_mode):
        refused = UnreadableError("link_to_folder", "a link to a folder; its images have paths of their own")
    elif not stat.S_ISREG(facts.st_mode):
        refused = UnreadableError("not_a_file", "a pipe, socket or device")
    elif facts.st_size > MAX_IMAGE_BYTES:
        refused = UnreadableError("too_large", f"{facts.st_size:,} bytes, at most {MAX_IMAGE_BYTES:,}")
    return Arrival(path, target, facts.st_size, facts.st_mtime_ns, refused)


def _changed_after(moment: float, facts: os.stat_result) -> bool:
    """Tell whether a file changed lately, by either of its times, as copying may keep the one of its content.

    A time that lies in the future by more than a moment comes from another clock and says nothing.
    """
    now = time.time()
    return any(moment < changed <= now + CLOCK_SLACK_S for changed in (facts.st_mtime, facts.st_ctime))


def read_arrival(arrival: Arrival) -> bytes:
    """Return a file's bytes.

    Raises:
        UnreadableError: it was refused before, cannot be read, or is being changed.
    """
    if arrival.refused:
        raise arrival.refused
    try:
        descriptor = os.open(arrival.file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            before = os.fstat(descriptor)
            if not stat.S_ISREG(before.st_mode):
                raise UnreadableError("not_a_file", "a folder, pipe, socket or device")
            with os.fdopen(descriptor, "rb", closefd=False) as stream:
                data = stream.read(MAX_IMAGE_BYTES + 1)
            after = os.fstat(descriptor)
        finally:
            os.close(descriptor)
    except FileNotFoundError as error:
        raise UnreadableError("changed_while_read", "it is gone") from error
    except OSError as error:
        if error.errno == errno.ELOOP:  # a link has taken the file's place
            raise UnreadableError("changed_while_read", "it is a link now") from error
        raise _refusal(error) from error
    if len(data) != arrival.n_bytes or after.st_mtime_ns != arrival.changed_ns:
        raise UnreadableError("changed_while_read", "it is being written")
    return data
