"""New images in a folder that belongs to someone else: read, never changed.

A batch is a folder directly under the inbox, with everything below it; files directly in the inbox are the batch named
`.`. Every file counts, whatever its name: a file that is no image gets a reason for its refusal. Links are followed to
files inside the inbox and nowhere else. A file that changed a moment ago may still be being copied, and waits for the
next scoring run.
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
from cxr.images.source import MAX_IMAGE_BYTES, litter
from cxr.storage import object_store
from cxr.storage.object_store import StoredObject
from cxr.wording import printable

LOOSE = "."
"""Name of the batch of the files that are directly in the inbox."""
RECEIVING = ".receiving"
"""Folder in an inbox that is no batch: `cxr.receiving` writes there what is not whole yet."""
CLOCK_SLACK_S = 5.0
"""How far in the future, in seconds, a file's time may be and still count."""
TIME_STEP_S = 2.0
"""The coarsest step of a file system's clock, which is FAT's: two changes within it may have the same time."""


@dataclass(frozen=True)
class Arrival:
    """A file in a batch, not read yet."""

    path: str
    """Relative to the batch's folder, POSIX, as `cxr.images.source.printable` writes it."""
    file: str
    """Its path on disk, as the file system spells it, or its URL in an object store."""
    n_bytes: int
    changed_ns: int
    """When its content last changed, in ns since 1970."""
    refused: UnreadableError | None = None
    """Why it is no image, if that is known without opening it."""
    signature: str | None = None
    """What every change of its content changes: its size, both of its times and its inode; of an object size and tag.

    The time of the content can be set, as `cp -p` does; the time of the inode's last change cannot. None if the file
    changed so recently that its next change may have the same times.
    """


@dataclass(frozen=True)
class Batch:
    """The contents of a batch's folder."""

    name: str
    arrivals: list[Arrival]
    """Ordered by path."""
    n_waiting: int
    """Number of files that changed too recently to be read."""
    left_aside: dict[str, int]
    """Number of files that systems left, such as Finder's and thumbnails, by kind."""


def batch_names(inbox: Path) -> dict[str, str]:
    """Return each batch's folder on disk, by the batch's name.

    Raises:
        DataError: the inbox is no folder, or cannot be listed.
    """
    try:
        entries = sorted((e for e in os.scandir(inbox) if e.name != RECEIVING), key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"the inbox {str(inbox)!r} cannot be listed ({error.strerror}): give a folder.") from error
    folders = {printable(Path(entry.name)): entry.path for entry in entries if entry.is_dir(follow_symlinks=False)}
    is_loose = any(not entry.is_dir(follow_symlinks=False) for entry in entries)
    return ({LOOSE: str(inbox)} if is_loose else {}) | folders


def list_batch(inbox: Path, name: str, folder: str, settle_s: float) -> Batch:
    """Return the contents of a batch's folder.

    Args:
        inbox: the folder that links may not leave.
        name: of the batch.
        folder: of the batch, as `batch_names` returns it.
        settle_s: a file that changed less than this many seconds ago waits.
    """
    root = os.path.realpath(inbox)
    settled_before = time.time() - settle_s
    arrivals: list[Arrival] = []
    left_aside: Counter[str] = Counter()
    n_waiting = 0
    for file, refused in _walk(folder, deeply=name != LOOSE):
        path = Path(file).relative_to(folder)
        if refused:
            arrivals.append(Arrival(printable(path), file, 0, 0, refused))
        elif kind := litter(Path(name) / path):
            left_aside[kind] += 1
        elif (arrival := _arrival(file, printable(path), root, settled_before)) is not None:
            arrivals.append(arrival)
        else:
            n_waiting += 1
    return Batch(name, sorted(arrivals, key=lambda arrival: arrival.path), n_waiting, dict(left_aside))


def _walk(folder: str, *, deeply: bool) -> Iterator[tuple[str, UnreadableError | None]]:
    """Yield every file under a folder, and every folder that cannot be listed, with the reason."""
    pending = [folder]
    while pending:
        current = pending.pop()
        try:
            entries = list(os.scandir(current))
        except FileNotFoundError:  # removed in the meantime
            continue
        except OSError as error:
            yield current, _refusal(error)
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
    """Return a file, with the reason if it cannot be an image; None if it or its target changed too recently."""
    try:
        own = facts = os.lstat(file)
        target = file
        if stat.S_ISLNK(own.st_mode):
            target = os.path.realpath(file, strict=True)
            facts = os.lstat(target)
    except PermissionError as error:
        return Arrival(path, file, 0, 0, _refusal(error))
    except OSError as error:  # a link to nothing or to itself, or a file that was removed in the meantime
        return Arrival(path, file, 0, 0, UnreadableError("broken_link", str(error.strerror)))
    if _changed_after(settled_before, own) or _changed_after(settled_before, facts):
        return None
    refused = too_large(facts.st_size)
    if os.path.commonpath([root, os.path.realpath(target)]) != root:
        refused = UnreadableError("link_leaves_inbox", "a link to a file outside the inbox")
    elif stat.S_ISDIR(facts.st_mode):
        refused = UnreadableError("link_to_folder", "a link to a folder; its images have paths of their own")
    elif not stat.S_ISREG(facts.st_mode):
        refused = UnreadableError("not_a_file", "a pipe, socket or device")
    return Arrival(path, target, facts.st_size, facts.st_mtime_ns, refused, _lasting_signature(facts))


def _lasting_signature(facts: os.stat_result) -> str | None:
    """Return a file's signature; None if its next change may leave it as it is."""
    is_young = max(facts.st_mtime, facts.st_ctime) > time.time() - TIME_STEP_S
    return None if is_young else _signature(facts)


def _signature(facts: os.stat_result) -> str:
    return f"{facts.st_size} {facts.st_mtime_ns} {facts.st_ctime_ns} {facts.st_ino}"


def _changed_after(moment: float, facts: os.stat_result) -> bool:
    """Return whether a file changed after a moment, by either of its times: copying may preserve the content's time.

    A time more than CLOCK_SLACK_S in the future comes from another clock and is ignored.
    """
    now = time.time()
    return any(moment < changed <= now + CLOCK_SLACK_S for changed in (facts.st_mtime, facts.st_ctime))


def single_file(path: Path) -> Arrival:
    """Return a file that is in no batch, with the reason if it is not there or too large; links are followed."""
    if object_store.is_url(name := object_store.name_of(path)):
        return _single_object(name)
    try:
        facts = path.stat()
    except OSError as error:
        return Arrival(printable(path), str(path), 0, 0, _refusal(error))
    refused = too_large(facts.st_size)
    return Arrival(printable(path), os.path.realpath(path), facts.st_size, facts.st_mtime_ns, refused)


def _single_object(url: str) -> Arrival:
    try:
        found = object_store.find_object(url)
    except Exception as error:  # botocore and s3fs raise many types
        return Arrival(url, url, 0, 0, UnreadableError("unreadable", f"the store does not give it ({error})"))
    refused = too_large(found.n_bytes)
    return Arrival(url, url, found.n_bytes, found.changed_ns, refused, signature_of_object(found))


def too_large(n_bytes: int) -> UnreadableError | None:
    """Return the reason why a file of this size is not read; None if it is."""
    if n_bytes <= MAX_IMAGE_BYTES:
        return None
    return UnreadableError("too_large", f"{n_bytes:,} bytes, at most {MAX_IMAGE_BYTES:,}")


def read_arrival(arrival: Arrival) -> bytes:
    """Return a file's bytes.

    Raises:
        UnreadableError: the file was refused already, cannot be read, or is being changed.
    """
    if arrival.refused:
        raise arrival.refused
    return _read_object(arrival) if object_store.is_url(arrival.file) else _read_file(arrival)


def _read_file(arrival: Arrival) -> bytes:
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
        if error.errno == errno.ELOOP:  # the file was replaced by a link
            raise UnreadableError("changed_while_read", "it is a link now") from error
        raise _refusal(error) from error
    except MemoryError as error:
        raise UnreadableError("short_of_memory", "this machine could not read it") from error
    is_as_listed = arrival.signature in (None, _signature(after))
    if len(data) != arrival.n_bytes or after.st_mtime_ns != arrival.changed_ns or not is_as_listed:
        raise UnreadableError("changed_while_read", "it is being written")
    return data


def _read_object(arrival: Arrival) -> bytes:
    try:
        data, found = object_store.read_object(arrival.file, arrival.n_bytes)
    except FileNotFoundError as error:
        raise UnreadableError("changed_while_read", "it is gone") from error
    except PermissionError as error:
        raise UnreadableError("permission_denied", "the store refuses it") from error
    except Exception as error:  # botocore and s3fs raise many types
        raise UnreadableError("unreadable", f"the store does not give it ({error})") from error
    is_as_listed = arrival.signature in (None, signature_of_object(found))
    if len(data) != found.n_bytes or found.changed_ns != arrival.changed_ns or not is_as_listed:
        raise UnreadableError("changed_while_read", "it is another object now")
    return data


def signature_of_object(entry: StoredObject) -> str:
    """Return what every change of an object's bytes changes."""
    return f"{entry.n_bytes} {entry.tag}"
