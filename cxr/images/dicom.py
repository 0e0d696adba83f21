"""DICOM images: pixels as a radiologist sees them, and nothing that identifies the patient.

Only the tags in `dicom_pixels.PIXEL_TAGS` are read. The patient's id is read for one purpose, to keep the images of a
patient in one fold, and leaves this module only as a keyed hash (HMAC-SHA256). The key stays on this machine: equal ids
give equal hashes, and without the key nobody can find an id by trying. Reasons for a refusal name the type of an error
and known codes of the modality, but never the value of another tag, because values may identify a patient.

Needs the extra `cxr[dicom]` (pydicom). Source: DICOM PS3.3, C.7.6.3 (pixels), C.11.1 and C.11.2 (modality and VOI
look-up).
"""

import hashlib
import hmac
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from cxr.errors import DataError, UnreadableError
from cxr.images import dicom_pixels
from cxr.images.dicom_file import name_of, photometric_interpretation, read_dataset, require_radiograph, whole
from cxr.storage import files
from cxr.storage.cache_folder import CacheFolder

if TYPE_CHECKING:
    from pydicom import Dataset

INTERPRETATIONS = frozenset(
    (
        "",
        "MONOCHROME1",
        "MONOCHROME2",
        "PALETTE COLOR",
        "RGB",
        "ARGB",
        "CMYK",
        "HSV",
        "YBR_FULL",
        "YBR_FULL_422",
        "YBR_PARTIAL_422",
        "YBR_PARTIAL_420",
        "YBR_ICT",
        "YBR_RCT",
        "XYB",
    )
)
"""The codes of PS3.3 C.7.6.3.1.2, those in use and the retired ones; empty where the tag is missing."""


def require_pydicom(n_images: int) -> None:
    """Raise DataError if pydicom is not installed."""
    try:
        import pydicom  # noqa: F401
    except ImportError as error:
        raise DataError(
            f"{n_images} images are DICOM, which needs pydicom: install cxr with the extra [dicom]."
        ) from error


def parse(data: bytes) -> "Dataset":
    """Return the allowed tags of a radiograph, its pixels still encoded.

    Raises:
        UnreadableError: the file is no radiograph, has several frames, or is damaged.
    """
    image = read_dataset(data, dicom_pixels.PIXEL_TAGS)
    require_radiograph(image)
    return image


def read_size(image: "Dataset") -> tuple[int, int, str, int]:
    """Return width and height in pixels, the photometric interpretation, and the bits stored.

    Raises:
        UnreadableError: a tag is missing or damaged, or the interpretation is no code of the standard. It becomes the
            manifest's `mode`, and a damaged file may hold a patient's name in its place.
    """
    width, height, bits = (whole(image, name) for name in ("Columns", "Rows", "BitsStored"))
    photometric = photometric_interpretation(image)
    if photometric not in INTERPRETATIONS:
        raise UnreadableError("damaged", f"{name_of('PhotometricInterpretation')} is no code of the standard")
    return width, height, photometric, bits


def decode_pixels(image: "Dataset") -> Image.Image:
    """Return the image, bright where dense: in mode L if it is grey, in mode RGB if it is in colour.

    Raises:
        UnreadableError: as for `dicom_pixels.read_levels`.
    """
    return Image.fromarray(dicom_pixels.read_levels(image))


def hash_patient(data: bytes, key: bytes) -> str | None:
    """Return the keyed hash of the patient id in a DICOM file; None if the file has no id.

    Args:
        data: the bytes of the file.
        key: as `patient_key` returns it.

    Raises:
        UnreadableError: the id cannot be read. Such an image is not used: its patient might be in two folds.
    """
    try:
        patient_id = str(read_dataset(data, ["PatientID"]).get("PatientID") or "").strip()
    except MemoryError:
        raise
    except Exception as error:
        raise UnreadableError("damaged", f"its patient id cannot be read ({type(error).__name__})") from None
    return "dicom-" + hmac.new(key, patient_id.encode(), hashlib.sha256).hexdigest()[:16] if patient_id else None


def patient_key(cache: Path) -> bytes:
    """Return the key for patient ids that is kept in `cache`; created at first use, readable by its owner alone."""
    path = CacheFolder(cache).patient_key
    with files.locked(CacheFolder(cache).patient_key_lock, "the key for patient ids", patience_s=10):
        if not path.exists():
            with files.replacing(path) as temporary:
                temporary.touch(mode=0o600)
                temporary.write_bytes(secrets.token_bytes(32))
        return path.read_bytes()
