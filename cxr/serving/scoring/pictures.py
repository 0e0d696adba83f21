"""Pictures of the files that a scoring run has read, decoded again from its inbox."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cxr.errors import UnreadableError
from cxr.images.decoding import Picture, decode_image
from cxr.images.inbox import LOOSE, Arrival, read_arrival
from cxr.images.reading import image_id_of
from cxr.storage import object_store


def find_picture(inbox: Path, batch: str, row: Mapping[str, Any], least_px: int) -> Picture | None:
    """Return a file of a batch as a picture; None if it cannot be read or decoded, or is another file now.

    Args:
        inbox: of the scoring run.
        batch: the file's batch.
        row: of the scoring run's record: path, image_id, n_bytes and changed_ns.
        least_px: the picture has at least this many pixels a side, if the image has as many.
    """
    file = inbox / row["path"] if batch == LOOSE else inbox / batch / row["path"]
    arrival = Arrival(row["path"], object_store.name_of(file), row["n_bytes"], row["changed_ns"])
    try:
        data = read_arrival(arrival)
        return decode_image(data, least_px) if image_id_of(data) == row["image_id"] else None
    except (UnreadableError, MemoryError):
        return None
