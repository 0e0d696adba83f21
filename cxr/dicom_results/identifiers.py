"""UIDs that follow from what they name: the same image and package give the same ones, whenever they are made.

So a killed run that is repeated makes no second instance, and a receiver that gets an instance twice knows it.

Source: DICOM PS3.5 annex B.2 (UIDs from UUIDs); RFC 9562 section 5.5 (UUIDs from names).
"""

import uuid
from dataclasses import dataclass

NAMESPACE = uuid.UUID("6f9f0f5e-3c86-5b0a-9d0c-0b7c1f6c2d7e")
"""Of this program's names; never to be changed, or every result has a second UID."""


@dataclass(frozen=True)
class ResultUids:
    """The UIDs of what is made for an image."""

    report: str
    report_series: str
    picture: str
    picture_series: str

    @classmethod
    def of(cls, image_id: str, package_hash: str) -> "ResultUids":
        """Return the UIDs of an image's results.

        Args:
            image_id: hash of the file.
            package_hash: of the model's files; another model of that name and version gives other UIDs.
        """
        return cls(*(derive_uid(kind, image_id, package_hash) for kind in cls.__annotations__))


def derive_uid(*names: str) -> str:
    """Return the UID that follows from names."""
    return f"2.25.{uuid.uuid5(NAMESPACE, chr(0).join(names)).int}"
