"""DICOM images: pixels as a radiologist sees them, and nothing that says whose they are.

Only the tags in `PIXEL_TAGS` are read. The patient's id is read for one purpose, to keep the images of a
patient in one fold, and leaves this module only as a keyed hash (HMAC-SHA256) whose key stays on this
machine: equal ids give equal hashes, and without the key nobody can try ids out. Reasons name types of
errors and the modality, never another tag's value, as values may identify.

Needs the extra `cxr[dicom]` (pydicom). Source: DICOM PS3.3, C.7.6.3 (pixels), C.11.1 and C.11.2 (modality
and VOI look-up).
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
"""Computed, digital and plain radiography; secondary captures are called OT or SC."""
DEFLATED = b"1.2.840.10008.1.2.1.99"


def is_dicom(data: bytes) -> bool:
    """Tell whether the bytes begin as a DICOM file."""
    return data[128:132] == b"DICM"


def require_pydicom(n_images: int) -> None:
    """Raise DataError where pydicom is missing and there are DICOM images."""
    try:
        import pydicom  # noqa: F401
    except ImportError as error:
        raise DataError(
            f"{n_images} images are DICOM, which needs pydicom: install cxr with the extra [dicom]."
        ) from error


def read_size(data: bytes) -> tuple[int, int, str, int]:
    """Return width and height in pixels, the photometric interpretation, and the bits stored.

    Raises:
        UnreadableError: no radiograph, several frames, or damaged.
    """
    with _image(data) as image:
        return int(image.Columns), int(image.Rows), str(image.PhotometricInterpretation), int(image.BitsStored)


def read_pixels(data: bytes) -> Image.Image:
    """Return the image, bright where dense: mode F for a grey one, RGB for a colour one.

    Modality and VOI look-up (table or window) are applied, padding becomes the darkest value.

    Raises:
        UnreadableError: as for `read_size`, or the pixels cannot be decoded.
    """
    from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut, convert_color_space

    with _image(data) as image:
        stored = image.pixel_array
        photometric = image.PhotometricInterpretation
        if image.SamplesPerPixel == 3:
            colour = stored if photometric == "RGB" else convert_color_space(stored, photometric, "RGB")
            return Image.fromarray(np.ascontiguousarray(colour, dtype=np.uint8))
        values = apply_voi_lut(apply_modality_lut(stored, image), image).astype(np.float32)
        if "PixelPaddingValue" in image:
            padding = stored == image.PixelPaddingValue
            if not padding.all():
                values[padding] = (values[~padding].max if photometric == "MONOCHROME1" else values[~padding].min)()
        return Image.fromarray(values.min() + values.max() - values if photometric == "MONOCHROME1" else values)


@contextmanager
def _image(data: bytes) -> Iterator["Dataset"]:
    """Yield the allowed tags of an image that can be used; whatever fails inside becomes UnreadableError."""
    try:
        image = _read_tags(data, PIXEL_TAGS)
        _require_radiograph(image)
        yield image
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
    """Return the keyed hash of the image's patient id; None where it has none.

    Args:
        key: of `patient_key`.

    Raises:
        UnreadableError: the id cannot be read; an image of an unknown patient could leak between folds.
    """
    try:
        patient_id = str(_read_tags(data, ["PatientID"]).get("PatientID") or "").strip()
    except Exception as error:
        raise UnreadableError("damaged", f"its patient id cannot be read ({type(error).__name__})") from None
    return "dicom-" + hmac.new(key, patient_id.encode(), hashlib.sha256).hexdigest()[:16] if patient_id else None


def patient_key(cache: Path) -> bytes:
    """Return this machine's key for patient ids, made at its first use and readable by its owner alone."""
    path = cache / "patient.key"
    with files.locked(cache / ".locks" / "patient-key.lock", "the key for patient ids", patience_s=10):
        if not path.exists():
            with files.replacing(path) as temporary:
                temporary.touch(mode=0o600)
                temporary.write_bytes(secrets.token_bytes(32))
        return path.read_bytes()
