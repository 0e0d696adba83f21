"""JPEG files: looked over before they are decoded, and decoded whole or not at all.

libjpeg fills missing data with grey and says so in a warning that Pillow drops. simplejpeg, on the same libjpeg-turbo,
turns it into an error, and gives the same pixels. It converts colours to RGB, and their luma and chroma are wanted as
they are stored; so a JFIF file, whose colours are always YCbCr, is handed to it as one whose colours are RGB already.
Other colours are decoded by Pillow, and checked before.

Source: ITU-T T.81 annex B (markers) and G (scans of a progressive image); T.871 (JFIF); T.872 6.5.3 (Adobe's marker).
"""

import io
import re
from collections.abc import Iterator
from itertools import islice

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from cxr.errors import Reason, UnreadableError

START = b"\xff\xd8\xff"
SCAN = b"\xff\xda"
MAX_SEGMENTS = 4096
"""Markers before the first scan, stray bytes included; a colour profile or a comment has some dozens at most."""
MAX_SCANS = 100
"""Encoders write up to about twenty."""
MAX_SCANNED_PIXELS = 3_000_000_000
"""In all scans together; libjpeg takes up to 1.2 ns for each, and some colours are decoded twice."""
RGB = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\0"
"""Adobe's marker for colours that are not to be converted."""
WITHOUT_LENGTH = {0x00, 0x01, *range(0xD0, 0xDA), 0xFF}
"""Second bytes of markers that no length follows, and of those that are none."""
PADDING = re.compile(r"(\d+) extraneous bytes before marker 0xd9")
MAX_PADDING_BYTES = 8
"""After the last pixels: some encoders fill up their last word."""


def read_header(data: bytes) -> Image.Image:
    """Return what Pillow finds ahead of the first scan; its pixels are not decoded yet.

    Raises:
        UnreadableError: decoding would take very long for the size of the image.
    """
    start = _first_scan(data)
    file = Image.open(io.BytesIO(data), formats=["JPEG"])
    n_scans = _count_scans(data, start)
    if n_scans > MAX_SCANS or n_scans * file.width * file.height > MAX_SCANNED_PIXELS:
        raise UnreadableError("too_complex", f"JPEG of {n_scans:,} scans, at most {MAX_SCANS}, fewer if it is large")
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


def require_whole(data: bytes, colours: str = "GRAY") -> None:
    """Raise UnreadableError where data is missing, too much, or out of order; decodes to an eighth of the size."""
    _decode(data, colours, 1, 1)


def _as_rgb(data: bytes) -> bytes:
    """Return a file without what applications wrote into it, such as JFIF, and with colours that count as RGB."""
    segments = list(_segments(data))
    kept = [data[start:end] for start, end in segments if not 0xE0 <= data[start + 1] <= 0xEF]
    return b"".join([data[:2], RGB, *kept, data[segments[-1][1] if segments else 2 :]])


def _decode(data: bytes, colours: str, width: int, height: int) -> NDArray[np.uint8]:
    try:
        return simplejpeg.decode_jpeg(data, colours, min_width=width, min_height=height)
    except ValueError as error:
        if "memory" in str(error).lower():
            raise MemoryError from error
        padding = PADDING.search(str(error))
        if padding is None or int(padding[1]) > MAX_PADDING_BYTES:
            raise UnreadableError(_reason(str(error)), str(error)) from error
        return simplejpeg.decode_jpeg(data, colours, min_width=width, min_height=height, strict=False)


def _reason(message: str) -> Reason:
    if "subsampling" in message:
        return "unsupported_format"
    return "truncated" if "remature end" in message else "damaged"


def _first_scan(data: bytes) -> int:
    """Return where the first scan begins; the end of the data if there is none.

    Pillow takes the same steps, and would take millions of them.
    """
    segments = list(islice(_segments(data), MAX_SEGMENTS + 1))
    if len(segments) > MAX_SEGMENTS:
        raise UnreadableError("too_complex", f"JPEG of over {MAX_SEGMENTS:,} segments before its first scan")
    return segments[-1][1] if segments else len(START) - 1


def _count_scans(data: bytes, start: int) -> int:
    """Return how often the marker of a scan occurs from `start` on, in ten times the speed of bytes.count."""
    pairs = (np.frombuffer(data, "<u2", (len(data) - k) // 2, k) for k in (start, start + 1) if k < len(data))
    return sum(int(np.count_nonzero(pair == int.from_bytes(SCAN, "little"))) for pair in pairs)


def _segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield where each segment ahead of the first scan begins and ends; a stray byte is a segment too."""
    start = len(START) - 1
    while (marker := data[start : start + 2]) != SCAN and len(marker) == 2:
        is_stray = marker[0] != 0xFF or marker[1] in WITHOUT_LENGTH
        end = start + (1 if is_stray else 2 + int.from_bytes(data[start + 2 : start + 4], "big"))
        yield start, end
        start = end
