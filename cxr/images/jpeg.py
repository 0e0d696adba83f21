"""JPEG files: looked over before they are decoded, and decoded whole or not at all.

libjpeg fills missing data with grey and says so in a warning that Pillow drops. simplejpeg, on the same libjpeg-turbo,
turns it into an error, and gives the same pixels: it decodes grey images, and checks those in colour, which
Pillow decodes, because their measures need the two colour channels.

Source: ITU-T T.81 annex B (markers) and G (scans of a progressive image).
"""

import io
import re

import simplejpeg
from PIL import Image

from cxr.errors import Reason, UnreadableError

START = b"\xff\xd8\xff"
SCAN = b"\xff\xda"
MAX_SEGMENTS = 4096
"""Markers before the first scan, stray bytes included; a colour profile or a comment has some dozens at most."""
MAX_SCANS = 100
"""Encoders write up to about twenty."""
MAX_SCANNED_PIXELS = 3_000_000_000
"""In all scans together; libjpeg takes up to 1.2 ns for each, and images in colour are decoded twice."""
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
    n_scans = data.count(SCAN, start)
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
        In mode L if they are grey, in mode YCbCr or CMYK if they are in colour.

    Raises:
        UnreadableError: truncated or damaged.
        MemoryError: this machine is short of memory, which says nothing about the image.
    """
    file.draft("L" if file.mode == "L" else "YCbCr", (side, side))
    if file.mode == "L":
        return _decode(data, "GRAY", file.width, file.height)
    require_whole(data, "CMYK" if file.mode == "CMYK" else "GRAY")
    file.load()
    return file


def require_whole(data: bytes, colours: str = "GRAY") -> None:
    """Raise UnreadableError where data is missing, too much, or out of order; decodes to an eighth of the size."""
    _decode(data, colours, 1, 1)


def _decode(data: bytes, colours: str, width: int, height: int) -> Image.Image:
    try:
        pixels = simplejpeg.decode_jpeg(data, colours, min_width=width, min_height=height)
    except ValueError as error:
        if "memory" in str(error).lower():
            raise MemoryError from error
        padding = PADDING.search(str(error))
        if padding is None or int(padding[1]) > MAX_PADDING_BYTES:
            raise UnreadableError(_reason(str(error)), str(error)) from error
        pixels = simplejpeg.decode_jpeg(data, colours, min_width=width, min_height=height, strict=False)
    return Image.fromarray(pixels[..., 0] if colours == "GRAY" else pixels, "L" if colours == "GRAY" else colours)


def _reason(message: str) -> Reason:
    if "subsampling" in message:
        return "unsupported_format"
    return "truncated" if "remature end" in message else "damaged"


def _first_scan(data: bytes) -> int:
    """Return where the first scan begins; the end of the data if there is none.

    Pillow takes the same steps, and would take millions of them.
    """
    position = len(START) - 1
    for _ in range(MAX_SEGMENTS):
        marker = data[position : position + 2]
        if marker == SCAN or len(marker) < 2:
            return position
        if marker[0] != 0xFF or marker[1] in WITHOUT_LENGTH:
            position += 1
        else:
            position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    raise UnreadableError("too_complex", f"JPEG of over {MAX_SEGMENTS:,} segments before its first scan")
