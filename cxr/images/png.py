"""PNG files: looked over before they are decoded, and decoded whole or not at all.

Pillow checks no checksum of the pixels, leaves rows that are missing black, and drops the low byte of 16-bit colour. So
it reads the header alone. libpng, through OpenCV, decodes the chunks that hold pixels, and sees no others: no colour
profile, text or animation can slow it down or change what it returns. Transparency is ignored, whatever the depth: a
radiograph has none, and a viewer's background is not part of it.

Source: W3C, Portable Network Graphics, third edition, sections 5 (chunks), 7.2 (rows) and 8.1 (interlacing).
"""

import io
import struct
import zlib
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxr.errors import UnreadableError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_CHUNKS = 100_000
"""256 MiB in the 8 KiB chunks that libpng writes are 32,768."""
PIXELS = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
ORIENTATION = (b"eXIf", b"iTXt", b"tEXt", b"zTXt")
"""Chunks in which Pillow finds how an image lies."""
GREY, PALETTE, GREY_ALPHA = 0, 3, 4
"""Colour types; others are RGB."""
CHANNELS = {GREY: 1, 2: 3, PALETTE: 1, GREY_ALPHA: 2, 6: 4}
WHOLE = ((0, 0, 1, 1),)
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""The passes of an interlaced image: first column and row, steps between columns and between rows."""
ROWS = 256
"""Rows that are scaled at a time."""
INFLATED_BYTES = 2**20


class Chunk(NamedTuple):
    """A chunk's type and its place in the file, from its length to its checksum."""

    kind: bytes
    start: int
    end: int


def find_chunks(data: bytes) -> list[Chunk]:
    """Return the chunks of a file, from IHDR to IEND; the last may extend beyond the data.

    Raises:
        UnreadableError: the first is not IHDR, or there are too many.
    """
    if data[8:16] != b"\0\0\0\x0dIHDR" or len(data) < 33:
        raise UnreadableError("truncated" if len(data) < 33 else "damaged", "PNG without a header")
    chunks: list[Chunk] = []
    start = len(SIGNATURE)
    while start + 8 <= len(data) and (not chunks or chunks[-1].kind != b"IEND"):
        length = int.from_bytes(data[start : start + 4], "big")
        chunks.append(Chunk(data[start + 4 : start + 8], start, start + length + 12))
        start += length + 12
        if len(chunks) > MAX_CHUNKS:
            raise UnreadableError("too_complex", f"PNG of over {MAX_CHUNKS:,} chunks")
    return chunks


def read_header(data: bytes, chunks: list[Chunk]) -> Image.Image:
    """Return what Pillow finds in the chunks that describe the image; it has no pixels.

    Raises:
        UnreadableError: they are damaged.
    """
    described = [*_parts(data, chunks, PIXELS[:2]), *_parts(data, chunks, ORIENTATION)]
    try:
        return Image.open(io.BytesIO(b"".join([SIGNATURE, *described, _empty(b"IDAT")])), formats=["PNG"])
    except (MemoryError, Image.DecompressionBombError):
        raise
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, struct.error, zlib.error, …
        raise UnreadableError("damaged", "PNG whose header cannot be read") from error


def read_bits(data: bytes) -> int:
    """Return the bits of a channel, 8 for palettes, from a file whose header has been read."""
    return 8 if data[25] == PALETTE else data[24]


def decode(data: bytes, chunks: list[Chunk]) -> Image.Image:
    """Return the pixels: in mode L if they are grey, in mode RGB if they are in colour.

    Images of 16 bits are scaled by their own range, colours by the range of all channels together, because a 12-bit
    export would be almost black if only the top byte were taken.

    Raises:
        UnreadableError: truncated or damaged.
        MemoryError: this machine is short of memory, which says nothing about the image.
    """
    _require_whole(data, chunks)
    is_grey = data[25] in (GREY, GREY_ALPHA)
    kinds = PIXELS if data[25] == PALETTE else (b"IHDR", b"IDAT", b"IEND")
    pixels = _decode(b"".join([SIGNATURE, *_parts(data, chunks, kinds)]), is_grey)
    if pixels is None:
        raise _why(data, chunks)
    if pixels.dtype == np.uint16:
        pixels = _scale_to_range(pixels)
    if is_grey:
        return Image.fromarray(pixels)
    return Image.frombuffer("RGB", (pixels.shape[1], pixels.shape[0]), pixels, "raw", "BGR", 0, 1)


def _parts(data: bytes, chunks: list[Chunk], kinds: tuple[bytes, ...]) -> list[memoryview]:
    view = memoryview(data)
    return [view[chunk.start : chunk.end] for chunk in chunks if chunk.kind in kinds]


def _empty(kind: bytes) -> bytes:
    return struct.pack(">I", 0) + kind + struct.pack(">I", zlib.crc32(kind))


def _require_whole(data: bytes, chunks: list[Chunk]) -> None:
    """Raise UnreadableError unless every chunk is there and has the checksum that was written with it."""
    view = memoryview(data)
    for kind, start, end in chunks:
        if end > len(data):
            raise UnreadableError("truncated", f"PNG that ends {end - len(data):,} bytes early")
        if zlib.crc32(view[start + 4 : end - 4]) != int.from_bytes(view[end - 4 : end], "big"):
            raise UnreadableError("damaged", f"PNG with a wrong checksum in {kind.decode('latin-1')!r}")
    if not chunks or chunks[-1].kind != b"IEND":
        raise UnreadableError("truncated", "PNG without its last chunk")


def _decode(png: bytes, is_grey: bool) -> NDArray[Any] | None:
    """Return grey levels, shape (height, width), or colours in the order BGR; None if libpng refuses the file.

    They have the type uint8, or uint16 where the file has 16 bits.
    """
    import cv2

    way = cv2.IMREAD_GRAYSCALE if is_grey else cv2.IMREAD_COLOR
    try:
        return cv2.imdecode(np.frombuffer(png, np.uint8), way | cv2.IMREAD_ANYDEPTH)
    except cv2.error as error:
        if error.code == cv2.Error.STS_NO_MEM:
            raise MemoryError from error
        raise


def _why(data: bytes, chunks: list[Chunk]) -> UnreadableError:
    """Return why libpng refuses a file whose chunks are all right.

    Raises:
        MemoryError: because this machine is short of memory.
    """
    expected = _inflated_length(data)
    try:
        found, is_whole = _inflate(_parts(data, chunks, (b"IDAT",)))
    except zlib.error as error:
        return UnreadableError("damaged", f"PNG whose pixels cannot be unpacked ({error})")
    if found < expected or not is_whole:
        return UnreadableError("truncated", f"PNG with {found:,} of {expected:,} bytes of pixels")
    bytearray(2 * expected)  # raises MemoryError where libpng ran out of it, and writes nothing
    return UnreadableError("damaged", "PNG that libpng cannot decode")


def _inflated_length(data: bytes) -> int:
    """Return how many bytes the pixels have before they are compressed: a filter's byte and the samples of each row."""
    width, height, bits, colour, _, _, is_interlaced = struct.unpack(">IIBBBBB", data[16:29])
    length = 0
    for column, row, column_step, row_step in ADAM7 if is_interlaced else WHOLE:
        columns, rows = -((column - width) // column_step), -((row - height) // row_step)
        if columns > 0 and rows > 0:
            length += rows * (1 + (columns * bits * CHANNELS[colour] + 7) // 8)
    return length


def _inflate(parts: list[memoryview]) -> tuple[int, bool]:
    """Return how many bytes come out of chunks, of which none is kept, and whether the stream has its end."""
    inflater, n_bytes = zlib.decompressobj(), 0
    for part in parts:
        rest: bytes | memoryview = part[8:-4]
        while len(rest) and not inflater.eof:
            n_bytes += len(inflater.decompress(rest, INFLATED_BYTES))
            rest = inflater.unconsumed_tail
    return n_bytes, inflater.eof


def _scale_to_range(pixels: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Return levels of 16 bits in 8, the darkest 0 and the brightest 255; any shape (height, …)."""
    low, high = int(pixels.min()), int(pixels.max())
    scaled = np.clip((np.arange(2**16) - low) * (255.0 / ((high - low) or 1)), 0, 255).round().astype(np.uint8)
    levels = np.empty(pixels.shape, np.uint8)
    for start in range(0, len(pixels), ROWS):
        np.take(scaled, pixels[start : start + ROWS], out=levels[start : start + ROWS])
    return levels
