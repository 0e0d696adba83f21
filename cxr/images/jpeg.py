"""JPEG files: looked over before they are decoded, and decoded whole or not at all.

libjpeg fills missing data with grey and says so in a warning that Pillow drops. simplejpeg, on the same libjpeg-turbo,
turns it into an error, and gives the same pixels. It converts colours to RGB, and their luma and chroma are wanted as
they are stored; so a JFIF file, whose colours are always YCbCr, is handed to it as one whose colours are RGB already.
Other colours are decoded by Pillow, and checked before.

Source: ITU-T T.81 annex B (markers); T.871 (JFIF); T.872 6.5.3 (Adobe's marker).
"""

import io
import re

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from cxr.errors import Reason, UnreadableError
from cxr.images import jpeg_scans

RGB = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\0"
"""Adobe's marker for colours that are not to be converted."""
PADDING = re.compile(r"(\d+) extraneous bytes before marker 0xd9")
EMPTY_FIELDS = "Invalid SOS parameters for sequential JPEG"
MAX_PADDING_BYTES = 8
"""After the last pixels: some encoders fill up their last word."""


def read_header(data: bytes) -> Image.Image:
    """Return what Pillow finds ahead of the first scan; its pixels are not decoded yet.

    Raises:
        UnreadableError: decoding would take very long for the size of the image.
    """
    start = jpeg_scans.find_first(data)
    file = Image.open(io.BytesIO(data), formats=["JPEG"])
    jpeg_scans.require_few(data, start, file.width * file.height)
    return file


def decode(data: bytes, file: Image.Image, side: int) -> Image.Image:
    """Return the pixels, scaled down while they are decoded, but not below `side`; call it once.

    Args:
        data: the file.
        file: its header.
        side: in pixels; the scale is a half, a quarter or an eighth.

    Returns:
        In mode L if they are grey, in mode YCbCr, RGB or CMYK if they are in colour.

    Raises:
        UnreadableError: truncated or damaged.
        MemoryError: this machine is short of memory, which says nothing about the image.
    """
    is_rgb = "jfif" not in file.info and file.info.get("adobe_transform") == 0
    file.draft(None if is_rgb else "L" if file.mode == "L" else "YCbCr", (side, side))
    if file.mode == "L":
        return Image.fromarray(_decode(data, "GRAY", file.width, file.height)[..., 0])
    if file.mode == "YCbCr" and "jfif" in file.info:
        pixels = _decode(_as_rgb(data), "RGB", file.width, file.height)
        return Image.frombuffer("YCbCr", (file.width, file.height), pixels, "raw", "YCbCr", 0, 1)
    require_whole(data, "CMYK" if file.mode == "CMYK" else "GRAY")
    file.load()
    return file


def require_quick(data: bytes, n_pixels: int) -> None:
    """Raise UnreadableError where decoding would take very long for the size of the image."""
    jpeg_scans.require_few(data, jpeg_scans.find_first(data), n_pixels)


def require_whole(data: bytes, colours: str = "GRAY") -> None:
    """Raise UnreadableError where data is missing, too much, or out of order; decodes to an eighth of the size."""
    _decode(data, colours, 1, 1)


def require_whole_lossless(data: bytes, n_samples: int, width: int, height: int) -> None:
    """Raise UnreadableError where data of a lossless JPEG is missing, too much, or out of order.

    Args:
        data: the file, of 8 bits.
        n_samples: of a pixel: 1 or 3.
        width: in pixels; such an image is not scaled while it is decoded.
        height: in pixels.
    """
    _decode(_as_rgb(data), "GRAY" if n_samples == 1 else "RGB", width, height)


def _as_rgb(data: bytes) -> bytes:
    """Return a file without what applications wrote into it, such as JFIF, and with colours that count as RGB."""
    segments = list(jpeg_scans.segments(data))
    kept = [data[start:end] for start, end in segments if not 0xE0 <= data[start + 1] <= 0xEF]
    return b"".join([data[:2], RGB, *kept, data[segments[-1][1] if segments else 2 :]])


def _decode(data: bytes, colours: str, width: int, height: int) -> NDArray[np.uint8]:
    pixels = _decode_scans(data, colours, width, height)
    jpeg_scans.require_all(data)
    return pixels


def _decode_scans(data: bytes, colours: str, width: int, height: int) -> NDArray[np.uint8]:
    try:
        return simplejpeg.decode_jpeg(data, colours, min_width=width, min_height=height)
    except ValueError as error:
        if "memory" in str(error).lower():
            raise MemoryError from error
        if EMPTY_FIELDS in str(error) and (filled := jpeg_scans.as_sequential(data)) != data:
            return _decode_scans(filled, colours, width, height)
        padding = PADDING.search(str(error))
        if padding is None or not _is_padding(data, int(padding[1])):
            raise UnreadableError(_reason(str(error)), str(error)) from error
        return simplejpeg.decode_jpeg(data, colours, min_width=width, min_height=height, strict=False)


def _is_padding(data: bytes, n_bytes: int) -> bool:
    """Return whether the last bytes ahead of the end marker are few and equal; data that is left over is not."""
    end = data.find(jpeg_scans.END, jpeg_scans.find_first(data))
    return n_bytes <= MAX_PADDING_BYTES and len(set(data[end - n_bytes : end])) == 1


def _reason(message: str) -> Reason:
    if "subsampling" in message:
        return "unsupported_format"
    return "truncated" if "remature end" in message else "damaged"
