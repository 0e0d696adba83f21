"""A compressed frame of a DICOM file: what it says of itself, and whether it is whole.

Source: ITU-T T.81 annex B (JPEG markers), T.800 annexes A (JPEG 2000) and I (JP2 boxes).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxr.errors import UnreadableError

START_OF_FRAME = {0xC0, 0xC1, 0xC2, 0xC3, 0xF7}
"""JPEG baseline, extended, progressive and lossless; JPEG-LS."""
SEQUENTIAL = {0xC0, 0xC1, 0xC3}
MAX_BOXES = 64
BOX_HEADER_BYTES = 8
"""Of JP2: length and type."""
TAIL_BYTES = 4
TAIL_PIXELS, TAIL_BLOCKS = 64, 20
"""How many pixels of a lossless JPEG, or blocks of another, the last bytes can hold: a bit a pixel, two a block."""


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
    position, adobe_transform = 2, None
    while position + 4 <= len(frame) and frame[position] == 0xFF:
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
            return FrameHeader(rows, columns, body[5], body[0], marker, adobe_transform)
        position += 2 + length
    return None


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


def require_complete(frame: bytes, pixels: bytes, header: FrameHeader, decoder: Callable[[bytes], bytes]) -> None:
    """Raise UnreadableError where the data of a grey JPEG, lossless or of 12 bits, ends before its image or after it.

    Args:
        frame: the encoded frame.
        pixels: what the decoder made of it.
        header: of the frame.
        decoder: decodes such a frame.
    """
    if header.process in SEQUENTIAL and header.samples == 1 and not _is_complete(frame, pixels, header, decoder):
        raise UnreadableError("truncated", "DICOM whose JPEG data ends before its image, or after it")


def _is_complete(frame: bytes, pixels: bytes, header: FrameHeader, decoder: Callable[[bytes], bytes]) -> bool:
    """Return whether the last pixels of a grey JPEG come from the last bytes of its data.

    Those bytes are changed and the frame is decoded once more. Where data is missing, the change shows long before
    the end; where too much data stands, it does not show at all. Where all is right, it shows in the last
    `TAIL_PIXELS` or `TAIL_BLOCKS`, no earlier.
    """
    end = frame.rfind(b"\xff\xd9")
    end = len(frame) if end < 0 else end
    start = end - TAIL_BYTES
    while start > 0 and frame[start - 1] == 0xFF:  # a stuffed 0 belongs to the byte before it
        start -= 1
    tail = bytes(byte ^ (0x2A if byte ^ 0x55 == 0xFF else 0x55) for byte in frame[start:end])
    changed = decoder(frame[:start] + tail + b"\x55" * 16 + b"\xff\xd9")
    shape = (header.rows, header.columns, -1)
    is_different = (np.frombuffer(pixels, np.uint8) != np.frombuffer(changed, np.uint8)).reshape(shape).any(axis=2)
    is_lossless = header.process == 0xC3
    is_different = is_different if is_lossless else _any_in_blocks(is_different)
    first = int(is_different.ravel().argmax())
    return bool(is_different.any()) and first >= is_different.size - (TAIL_PIXELS if is_lossless else TAIL_BLOCKS)


def _any_in_blocks(flags: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return per block of 8×8 whether any of its flags is set."""
    rows, columns = (-(-side // 8) * 8 for side in flags.shape)
    padded = np.zeros((rows, columns), bool)
    padded[: flags.shape[0], : flags.shape[1]] = flags
    return np.asarray(padded.reshape(rows // 8, 8, columns // 8, 8).any(axis=(1, 3)))
