"""A radiograph in a DICOM file: pixels as a radiologist sees them.

Only the tags in `PIXEL_TAGS` are read. Reasons for a refusal name the type of an error and known codes of the standard,
but never another value of a tag, because values may identify a patient.

Needs the extra `cxr[dicom]` (pydicom). Source: DICOM PS3.3, C.7.6.3 (pixels), C.11.1 and C.11.2 (modality and VOI
look-up).
"""

from typing import TYPE_CHECKING

from PIL import Image

from cxr.errors import DataError, UnreadableError
from cxr.images.dicom.file import name_of, photometric_interpretation, read_dataset, require_radiograph, whole
from cxr.images.dicom.pixels import PIXEL_TAGS, read_levels

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
    image = read_dataset(data, PIXEL_TAGS)
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
        UnreadableError: as for `read_levels`.
    """
    return Image.fromarray(read_levels(image))
