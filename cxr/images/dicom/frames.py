"""A compressed frame of a DICOM file: what it says of itself, and whether a JPEG is whole.

How a JPEG's data is coded does not depend on the bits of a sample. So libjpeg, which in `cxr.images.jpeg` decodes 8
bits and says what is missing, can look for missing data in frames of 9 to 16 bits too: they are shown to it as 8.

Source: ITU-T T.81 annex B (JPEG markers), T.800 annexes A (JPEG 2000) and I (JP2 boxes).
"""

from dataclasses import dataclass, replace

from cxr.errors import UnreadableError
from cxr.images import jpeg

START_OF_FRAME = {0xC0, 0xC1, 0xC2, 0xC3, 0xF7}
"""JPEG baseline, extended, progressive and lossless; JPEG-LS."""
LOSSLESS = 0xC3
JPEG_LS = 0xF7
SCAN = 0xDA
MAX_BOXES = 64
BOX_HEADER_BYTES = 8
"""Of JP2: length and type."""


@dataclass(frozen=True)
class FrameHeader:
    """What a JPEG or JPEG 2000 frame says of itself."""

    rows: int
    columns: int
    samples: int
    bits: int
    process: int = 0
    """The JPEG frame's marker, as 0xC3 for lossless; 0 for JPEG 2000."""
    adobe_transform: int | None = None
    """1 where Adobe's marker says that the samples are YCbCr, 0 where it says that they are not."""
    bits_at: int = 0
    """Where the JPEG frame says how many bits a sample has."""


def read_frame_header(frame: bytes) -> FrameHeader:
    """Return what a JPEG, JPEG-LS or JPEG 2000 frame says of itself.

    Raises:
        UnreadableError: it is none of them, or ends before it says so.
    """
    header = _jpeg_header(frame) if frame[:2] == b"\xff\xd8" else _jpeg_2000_header(frame)
    if header is None:
        raise UnreadableError("damaged", "DICOM whose frame is not compressed as its transfer syntax says")
    return header


def _jpeg_header(frame: bytes) -> FrameHeader | None:
    """Return what the segments ahead of the first scan say; Adobe's may stand before the frame's or after it."""
    position = 2
    header, adobe_transform = None, None
    while position + 4 <= len(frame) and frame[position] == 0xFF and frame[position + 1] != SCAN:
        marker = frame[position + 1]
        if marker == 0xFF:
            position += 1
            continue
        length = int.from_bytes(frame[position + 2 : position + 4], "big")
        body = frame[position + 4 : position + 2 + length]
        if marker == 0xEE and body[:5] == b"Adobe" and len(body) >= 12:
            adobe_transform = body[11]
        if marker in START_OF_FRAME and len(body) >= 6:
            rows, columns = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
            header = FrameHeader(rows, columns, body[5], body[0], marker, bits_at=position + 4)
        position += 2 + length
    return header and replace(header, adobe_transform=adobe_transform)


def _jpeg_2000_header(frame: bytes) -> FrameHeader | None:
    start = frame.find(b"\xff\x4f\xff\x51", 0, 4096)  # a JP2 file's boxes may stand before the code stream
    size = frame[start + 4 : start + 43]
    if start < 0 or len(size) < 39:
        return None
    width, height, left, top = (int.from_bytes(size[4 + 4 * k : 8 + 4 * k], "big") for k in range(4))
    return FrameHeader(height - top, width - left, int.from_bytes(size[36:38], "big"), (size[38] & 0x7F) + 1)


def require_code_stream(frame: bytes) -> None:
    """Raise UnreadableError where the boxes before a JPEG 2000 image do not lead to it.

    pydicom follows them from length to length, for ever where a length is 0. Source: T.800 annex I.4.
    """
    if frame[4:8] != b"jP  ":
        return
    position = 12
    for _ in range(MAX_BOXES):
        if frame[position + 4 : position + 8] == b"jp2c":
            return
        length = int.from_bytes(frame[position : position + 4], "big")
        if length < BOX_HEADER_BYTES:
            break
        position += length
    raise UnreadableError("damaged", "DICOM whose JPEG 2000 boxes lead to no image")


def require_whole(frame: bytes, header: FrameHeader) -> None:
    """Raise UnreadableError where a JPEG would take very long, or data of it is missing, too much, or out of order.

    JPEG-LS and JPEG 2000 have decoders that say so themselves.
    """
    if header.process in (0, JPEG_LS):
        return
    jpeg.require_quick(frame, header.rows * header.columns)
    as_8_bits = frame[: header.bits_at] + b"\x08" + frame[header.bits_at + 1 :]
    if header.process == LOSSLESS:
        jpeg.require_whole_lossless(as_8_bits, header.samples, header.columns, header.rows)
    else:
        jpeg.require_whole(as_8_bits)
