"""The batches of an inbox, which is a folder (`cxr.images.inbox`) or lies in an object store, `s3://bucket/inbox`.

In a store a batch is all that lies under one name below the inbox's URL. An object is whole or not there, and its tag
(ETag) changes with its bytes; there are no links and no pipes. A store does not know an empty folder: an inbox without
a single object is refused, as its URL may be misspelt. Consoles that make a folder write an empty object whose name
ends with a slash: that counts as one, and is no file of a batch.
"""

import time
from collections import Counter
from pathlib import Path, PurePosixPath

from cxr.errors import DataError
from cxr.images import inbox as folders
from cxr.images.inbox import CLOCK_SLACK_S, LOOSE, RECEIVING, Arrival, Batch, signature_of_object, too_large
from cxr.images.source import litter
from cxr.storage import object_store
from cxr.storage.object_store import StoredObject
from cxr.wording import printable

IS_FOLDER = "/"
"""What the name of an empty object ends with that stands for a folder."""


def batch_names(inbox: Path) -> dict[str, str]:
    """Return the folder or the URL of each batch, by the batch's name.

    Raises:
        DataError: the inbox cannot be listed; in a store also: it has no object, or a batch's name is no folder's.
    """
    return _names_in_store(inbox) if object_store.is_object(inbox) else folders.batch_names(inbox)


def list_batch(inbox: Path, name: str, place: str, settle_s: float) -> Batch:
    """Return the contents of a batch.

    Args:
        inbox: the folder that links may not leave, or the one in a store.
        name: of the batch.
        place: its folder or URL, as `batch_names` returns it.
        settle_s: a file that changed less than this many seconds ago waits.
    """
    if object_store.is_object(inbox):
        return _list_in_store(name, place, settle_s)
    return folders.list_batch(inbox, name, place, settle_s)


def _names_in_store(inbox: Path) -> dict[str, str]:
    try:
        entries = [entry for entry in object_store.scan(inbox) if entry != RECEIVING]
    except Exception as error:  # botocore and s3fs raise many types
        raise DataError(f"the inbox {str(inbox)!r} cannot be listed ({error}): give the URL of a folder.") from error
    if not entries and str(inbox).rstrip("/").count("/") > 2:
        raise DataError(f"the inbox {str(inbox)!r} has no object: give the URL of a folder that has batches.")
    names = sorted(entry for entry in entries if isinstance(entry, str))
    if bad := [name for name in names if name in ("", ".", "..")]:
        raise DataError(f"a batch needs the name of a folder, got {bad[0]!r} in the inbox {str(inbox)!r}: rename it.")
    is_loose = any(isinstance(entry, StoredObject) and not entry.url.endswith(IS_FOLDER) for entry in entries)
    urls = {printable(PurePosixPath(name)): f"{str(inbox).rstrip('/')}/{name}" for name in names}
    return ({LOOSE: str(inbox)} if is_loose else {}) | urls


def _list_in_store(name: str, url: str, settle_s: float) -> Batch:
    place = object_store.open_path(url)
    found = object_store.scan(place) if name == LOOSE else object_store.walk(place)
    now = time.time()
    arrivals: list[Arrival] = []
    left_aside: Counter[str] = Counter()
    n_waiting = 0
    for entry in found:
        if isinstance(entry, str) or entry.url.endswith(IS_FOLDER):
            continue
        path = PurePosixPath(entry.url.removeprefix(f"{url.rstrip('/')}/"))
        if kind := litter(PurePosixPath(name) / path):
            left_aside[kind] += 1
        elif now - settle_s < entry.changed_ns / 1e9 <= now + CLOCK_SLACK_S:
            n_waiting += 1
        else:
            arrivals.append(_arrival(entry, printable(path)))
    return Batch(name, sorted(arrivals, key=lambda arrival: arrival.path), n_waiting, dict(left_aside))


def _arrival(entry: StoredObject, path: str) -> Arrival:
    refused = too_large(entry.n_bytes)
    return Arrival(path, entry.url, entry.n_bytes, entry.changed_ns, refused, signature_of_object(entry))
