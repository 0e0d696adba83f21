"""DICOM images: pixels as a radiologist sees them, and nothing that identifies the patient.

Only the tags in `PIXEL_TAGS` are read. The patient's id is read for one purpose, to keep the images of a patient in one
fold, and leaves this module only as a keyed hash (HMAC-SHA256). The key stays on this machine: equal ids give equal
hashes, and without the key nobody can find an id by trying. Reasons for a refusal name the type of an error and the
modality, but never the value of another tag, because values may identify a patient.

Needs the extra `cxr[dicom]` (pydicom). Source: DICOM PS3.3, C.7.6.3 (pixels), C.11.1 and C.11.2 (modality and VOI
look-up).
"""

import hashlib
import hmac
import io
import logging
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from cxr.errors import DataError, UnreadableError
from cxr.storage import files
from cxr.storage.cache_folder import CacheFolder

if TYPE_CHECKING:
    from pydicom import Dataset

PIXEL_TAGS = [
    "SOPClassUID",
    "Modality",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelPaddingValue",
    "RescaleSlope",
    "RescaleIntercept",
    "ModalityLUTSequence",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
    "VOILUTSequence",
    "PixelData",
]
MODALITIES = ("CR", "DX", "RG", "OT", "SC", "")
"""Computed, digital and plain radiography; OT and SC are secondary captures."""
DEFLATED = b"1.2.840.10008.1.2.1.99"
"""UID of the transfer syntax that compresses the whole file."""


def is_dicom(data: bytes) -> bool:
    """Return whether the bytes begin as a DICOM file."""
    return data[128:132] == b"DICM"


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
    with _errors_as_damage():
        image = _read_tags(data, PIXEL_TAGS)
        _require_radiograph(image)
        return image


def read_size(image: "Dataset") -> tuple[int, int, str, int]:
    """Return width and height in pixels, the photometric interpretation, and the bits stored.

    Raises:
        UnreadableError: a tag is missing or damaged.
    """
    with _errors_as_damage():
        return int(image.Columns), int(image.Rows), str(image.PhotometricInterpretation), int(image.BitsStored)


def decode_pixels(image: "Dataset") -> Image.Image:
    """Return the image, bright where dense: in mode F if it is grey, in mode RGB if it is in colour.

    The modality look-up and the VOI look-up (table or window) are applied; padding becomes the darkest value.

    Raises:
        UnreadableError: the pixels cannot be decoded.
    """
    from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut, convert_color_space

    with _errors_as_damage():
        stored = image.pixel_array
        photometric = image.PhotometricInterpretation
        if image.SamplesPerPixel == 3:
            colour = stored if photometric == "RGB" else convert_color_space(stored, photometric, "RGB")
            return Image.fromarray(np.ascontiguousarray(colour, dtype=np.uint8))
        values = apply_voi_lut(apply_modality_lut(stored, image), image).astype(np.float32)
        if "PixelPaddingValue" in image:
            padding = stored == image.PixelPaddingValue
            if not padding.all():
                visible = values[~padding]
                values[padding] = visible.max() if photometric == "MONOCHROME1" else visible.min()
        return Image.fromarray(values.min() + values.max() - values if photometric == "MONOCHROME1" else values)


@contextmanager
def _errors_as_damage() -> Iterator[None]:
    """Turn any error of the block into UnreadableError, which names the error's type and nothing from the file."""
    try:
        yield
    except UnreadableError:
        raise
    except Exception as error:  # pydicom raises AttributeError, ValueError, NotImplementedError, RuntimeError, …
        raise UnreadableError("damaged", f"DICOM that cannot be decoded ({type(error).__name__})") from None


def _read_tags(data: bytes, tags: list[str]) -> "Dataset":
    import pydicom
    from pydicom import config

    if DEFLATED in data[:4096]:
        raise UnreadableError("unsupported_format", "deflated DICOM, which may unpack without bound")
    config.settings.reading_validation_mode = config.IGNORE  # its warnings quote the values of tags
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)  # and so do its messages
    return pydicom.dcmread(io.BytesIO(data), specific_tags=list(tags))


def _require_radiograph(image: "Dataset") -> None:
    modality = str(image.get("Modality", ""))
    if modality not in MODALITIES:
        raise UnreadableError("dicom_of_something_else", f"modality {modality[:16]!r}")
    if int(image.get("NumberOfFrames") or 1) != 1:
        raise UnreadableError("dicom_of_something_else", "several frames")
    if image.PhotometricInterpretation == "PALETTE COLOR":
        raise UnreadableError("unsupported_format", "palette DICOM")


def hash_patient(data: bytes, key: bytes) -> str | None:
    """Return the keyed hash of the patient id in a DICOM file; None if the file has no id.

    Args:
        data: the bytes of the file.
        key: as `patient_key` returns it.

    Raises:
        UnreadableError: the id cannot be read. Such an image is not used: its patient might be in two folds.
    """
    try:
        patient_id = str(_read_tags(data, ["PatientID"]).get("PatientID") or "").strip()
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
