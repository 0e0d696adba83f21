"""From an image's bytes to one grey square.

An image is decoded once: libjpeg scales while it decodes (PIL's `draft`), the result is stretched to a
uint8 square and kept in `cache/`, keyed by the image's content and the square's size, for all folds and
all later runs. Scaled decoding differs from decoding whole by half a grey level on average (120 originals,
224 px; `benchmarks/decoding.py`). An image that cannot be decoded is an error with a reason, never a black square.

Source of the stretch: the whole image is kept, borders included, and the image's shape, which tells
scanners apart, is not shown to the model as empty margins.
"""

import io
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from cxr.errors import UnreadableError
from cxr.images import dicom
from cxr.storage.image_arrays import ImageArrays

DECODER = "v2"
"""Part of the cache's key: change it with `decode_image`, and images are decoded anew."""
FORMATS = ("JPEG", "PNG")
OTHER_FORMATS = ("BMP", "GIF", "JPEG2000", "TIFF", "WEBP")
"""Recognised to say so, never decoded."""
MIN_SIDE_PX = 32
MAX_PIXELS = 100_000_000
DECODED_PX = 256
"""Images are decoded to this side at least, whatever square is wanted, so that all squares agree."""


@dataclass(frozen=True)
class Header:
    """What an image's header says: size in pixels, as stored; Pillow's mode or DICOM's; bits per channel."""

    width: int
    height: int
    mode: str
    bits: int


@dataclass(frozen=True)
class Picture:
    """A decoded image."""

    grey: Image.Image
    """Mode L, upright, scaled down but not below 256 px or the size asked for."""
    chroma: float
    """Mean distance of its pixels from grey, in levels of 255; 0 for a grey image."""


def read_header(data: bytes) -> Header:
    """Return what the header says, pixels untouched.

    Raises:
        UnreadableError: empty, no JPEG, PNG or DICOM image, under 32 px on a side, or over 100 million pixels.
    """
    if dicom.is_dicom(data):
        header = Header(*dicom.read_size(data))
    else:
        with _open(data) as image:
            header = Header(image.width, image.height, image.mode, {"I": 16, "1": 1}.get(image.mode[0], 8))
    if header.width * header.height > MAX_PIXELS:
        raise UnreadableError("too_large", f"{header.width}×{header.height}, at most {MAX_PIXELS:,} pixels")
    if min(header.width, header.height) < MIN_SIDE_PX:
        raise UnreadableError("too_small", f"{header.width}×{header.height}, at least {MIN_SIDE_PX} px a side")
    return header


def decode_image(data: bytes, least_px: int) -> Picture:
    """Return the image in grey, at least `least_px` (and 256) px a side where it has as many.

    Grey is luma for colour images. 16-bit and DICOM images are scaled by their own range, as 12-bit exports
    would be black if the top byte were taken.

    Raises:
        UnreadableError: as for `read_header`, or truncated, or damaged.
    """
    read_header(data)
    if dicom.is_dicom(data):
        return _picture(dicom.read_pixels(data))
    with _open(data) as image:
        try:
            side = max(least_px, DECODED_PX)
            image.draft("L" if image.mode == "L" else "YCbCr", (side, side))
            image.load()
            return _picture(image)
        except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, …
            reason = "truncated" if "truncated" in str(error) else "damaged"
            raise UnreadableError(reason, str(error)) from error


def decode_square(data: bytes, size: int) -> NDArray[np.uint8]:
    """Return the image as a grey square, shape (size, size); errors as for `decode_image`."""
    return stretch(decode_image(data, size).grey, size)


def stretch(grey: Image.Image, size: int) -> NDArray[np.uint8]:
    """Return a grey image stretched to a square, shape (size, size)."""
    return np.asarray(grey.resize((size, size), Image.Resampling.BILINEAR))


def _open(data: bytes) -> Image.Image:
    if not data:
        raise UnreadableError("empty", "0 bytes")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # MAX_PIXELS is the stricter rule
            return Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise UnreadableError("too_large", f"over {MAX_PIXELS:,} pixels") from error
    except Exception as error:
        raise _refusal(data) from error


def _refusal(data: bytes) -> UnreadableError:
    """Return why bytes without a JPEG or PNG header are refused; headers of other formats are read, nothing more."""
    try:
        with Image.open(io.BytesIO(data), formats=OTHER_FORMATS) as image:
            return UnreadableError("unsupported_format", f"{image.format}, not JPEG, PNG or DICOM")
    except Exception:  # as above
        return UnreadableError("not_an_image", "no JPEG, PNG or DICOM header")


def _picture(image: Image.Image) -> Picture:
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image, dtype=np.float64)
        low, high = values.min(), values.max()
        scaled = ((values - low) * (255.0 / ((high - low) or 1.0))).round().astype(np.uint8)
        grey, chroma = Image.fromarray(scaled), 0.0
    elif image.mode in ("L", "1"):
        grey, chroma = image.convert("L"), 0.0
    else:
        luma = image if image.mode == "YCbCr" else image.convert("RGB").convert("YCbCr")
        small = np.asarray(luma.resize((64, 64), Image.Resampling.BOX), dtype=np.float64)
        grey, chroma = luma.getchannel("Y"), float(np.hypot(*(small[..., k] - 128.0 for k in (1, 2))).mean())
    if 0x0112 in (exif := image.getexif()):
        grey.info["exif"] = exif.tobytes()
        grey = ImageOps.exif_transpose(grey)
    return Picture(grey, chroma)


def open_prepared(cache: Path, size: int) -> ImageArrays:
    """Return the store of the grey squares that a model of this size is fed with, each of shape (size, size)."""
    return ImageArrays(cache / "prepared" / DECODER / f"size={size}", (size, size), np.uint8)
