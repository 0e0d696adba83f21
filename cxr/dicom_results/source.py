"""The DICOM image that a result is about: which it is, whose, and of which study.

The patient's and the study's attributes go from the source into the results as they are, and nowhere else: libraries
get a stand-in that has only the UIDs and the size, as they log and quote what they are given. Reasons for a refusal
name a tag, never its value.

Source: DICOM PS3.3 C.7.1.1 (patient), C.7.2.1 (study), C.7.2.2 (patient study).
"""

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from cxr.errors import UnreadableError
from cxr.images.dicom.file import RADIOGRAPH_CLASSES, is_uid, name_of, read_dataset, whole

if TYPE_CHECKING:
    from pydicom import Dataset

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
PATIENT = (
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "IssuerOfPatientIDQualifiersSequence",
    "TypeOfPatientID",
    "PatientBirthDate",
    "PatientBirthTime",
    "PatientSex",
    "OtherPatientIDsSequence",
    "OtherPatientNames",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    "QualityControlSubject",
)
STUDY = (
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "StudyDescription",
    "AccessionNumber",
    "IssuerOfAccessionNumberSequence",
    "ReferringPhysicianName",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "TimezoneOffsetFromUTC",
)
IDENTITY = PATIENT + STUDY
MAY_BE_EMPTY = (
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
)
"""Attributes that an instance has, with or without a value (type 2)."""
UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
TAGS = (*IDENTITY, *UIDS, "SOPClassUID", "Rows", "Columns", "PatientOrientation", "LossyImageCompression")
UNDECODABLE = "\N{REPLACEMENT CHARACTER}"


class SourceError(Exception):
    """An image to which no result can be written; the message quotes no value of a tag."""


@dataclass(frozen=True)
class Source:
    """A DICOM image, without its pixels."""

    dataset: "Dataset"

    @property
    def stand_in(self) -> "Dataset":
        """A dataset that says which image it is, and not whose; libraries get this one."""
        from pydicom import Dataset

        stand_in = Dataset()
        for keyword in MAY_BE_EMPTY:
            setattr(stand_in, keyword, None)
        stand_in.PatientID = None
        for keyword in (*UIDS, "SOPClassUID", "Rows", "Columns"):
            setattr(stand_in, keyword, self.dataset[keyword].value)
        stand_in.Modality = "OT"  # of others highdicom wants an orientation and a spacing, which many files lack
        return stand_in

    @property
    def orientation(self) -> list[str]:
        """Where the rows and the columns go to in the patient; empty if the file does not say."""
        value = self.dataset.get("PatientOrientation")
        return [str(part) for part in value] if value and not isinstance(value, str) and len(value) == 2 else []

    @property
    def is_lossy(self) -> bool:
        """Whether the image has been compressed with loss."""
        return self.dataset.get("LossyImageCompression") == "01"

    def identify(self, instance: "Dataset") -> None:
        """Give an instance the patient and the study of this image."""
        for keyword in IDENTITY:
            if keyword in self.dataset:
                instance[keyword] = self.dataset[keyword]
            elif keyword in MAY_BE_EMPTY:
                setattr(instance, keyword, None)

    def local(self, moment: datetime) -> datetime:
        """Return a moment in the time zone of the image; that of this machine if the file does not say."""
        return moment.astimezone(_zone(str(self.dataset.get("TimezoneOffsetFromUTC") or "")))


def read_source(data: bytes) -> Source:
    """Return the image in a DICOM file.

    Raises:
        SourceError: it has no patient id, no study, or no UID that the standard allows; it is of another SOP class
            than those of radiographs and secondary captures; or a name or a text of it cannot be decoded.
    """
    try:
        dataset = read_dataset(data, TAGS)
        for keyword in ("Rows", "Columns"):
            whole(dataset, keyword)
    except UnreadableError as error:
        raise SourceError(str(error)) from None
    for keyword in UIDS:
        if not is_uid(str(dataset.get(keyword))):
            raise SourceError(f"{name_of(keyword)} is missing or no UID")
    if dataset.get("SOPClassUID") not in (*RADIOGRAPH_CLASSES, SECONDARY_CAPTURE):
        raise SourceError(f"{name_of('SOPClassUID')} is neither a radiograph's nor a secondary capture's")
    if not str(dataset.get("PatientID") or "").strip():
        raise SourceError(f"{name_of('PatientID')} is missing")
    for element in dataset.iterall():
        if UNDECODABLE in str(element.value):  # a name or a text has bytes that its character set does not have
            raise SourceError(f"{name_of(element.keyword)} cannot be decoded with the file's character set")
    return Source(dataset)


def _zone(offset: str) -> timezone | None:
    """Return the time zone of an offset such as +0100; None if it is no offset."""
    sign, digits = offset[:1], offset[1:]
    if sign not in ("+", "-") or len(digits) != 4 or not digits.isdecimal():
        return None
    minutes = 60 * int(digits[:2]) + int(digits[2:])
    return timezone(timedelta(minutes=-minutes if sign == "-" else minutes)) if minutes < 24 * 60 else None
