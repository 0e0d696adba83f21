"""What a sender may store: one radiograph, under UIDs that the standard allows.

A UID becomes the name of a file or a folder, so its grammar is checked: digits and dots, no empty part. No other value
of a data set leaves this module: a patient's name may stand in any of them.

Source: DICOM PS3.4 annex B (statuses of C-STORE).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cxr.errors import UnreadableError
from cxr.images.dicom.file import is_uid, name_of, read_dataset, require_radiograph
from cxr.images.dicom.pixels import PIXEL_TAGS

if TYPE_CHECKING:
    from pydicom import Dataset

STORED = 0x0000
OUT_OF_RESOURCES = 0xA700
DOES_NOT_MATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000
"""The statuses of C-STORE that are answered with, of each range the first."""
TAGS = (*PIXEL_TAGS, "SOPInstanceUID", "StudyInstanceUID")


class RefusedError(Exception):
    """An instance that is not stored.

    Attributes:
        status: the answer to the sender.
    """

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


@dataclass(frozen=True)
class Instance:
    """A radiograph as a sender stores it."""

    uid: str
    study_uid: str | None
    """None if it has none that the standard allows."""
    data: bytes
    """The DICOM file."""


def read_instance(data: bytes, sop_class: str, uid: str) -> Instance:
    """Return what a sender stores.

    Args:
        data: the DICOM file that the request makes.
        sop_class: of the request.
        uid: of the request, as `is_uid` wants it.

    Raises:
        RefusedError: it cannot be parsed, is no radiograph, or is not what the request says.
    """
    dataset = _parse(data)
    for keyword, requested in (("SOPClassUID", sop_class), ("SOPInstanceUID", uid)):
        if str(dataset.get(keyword)) != requested:
            raise RefusedError(DOES_NOT_MATCH, f"{name_of(keyword)} is not that of the request")
    study_uid = str(dataset.get("StudyInstanceUID"))
    return Instance(uid, study_uid if is_uid(study_uid) else None, data)


def _parse(data: bytes) -> "Dataset":
    try:
        dataset = read_dataset(data, TAGS)
        require_radiograph(dataset)
    except UnreadableError as error:
        is_something_else = error.reason == "dicom_of_something_else"
        raise RefusedError(DOES_NOT_MATCH if is_something_else else CANNOT_UNDERSTAND, str(error)) from None
    return dataset
