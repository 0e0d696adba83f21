"""A DICOM's stored values, whatever its transfer syntax.

pydicom takes frames apart, unpacks native pixels and corrects signs. Compressed frames go through one function
here, whatever else is installed, so that an image has the same pixels on every machine: Pillow for JPEG Baseline
and JPEG 2000, imagecodecs (libjpeg-turbo, CharLS, OpenJPEG) for the rest. Before a decoder sees a frame, the size
that the frame itself declares is held against the dataset: neither can ask for memory that the other does not.

libjpeg fills missing data with grey. Of 8 bits, `cxr.images.jpeg` finds out; of 12 bits and of lossless frames,
whose decoder drops libjpeg's warning, `_is_complete` does: the last bytes of a frame have to be where its last
pixels come from.

Source: PS3.5 section 8 and annexes A.4 and G; ITU-T T.81 annex B (JPEG markers), T.800 annex A (JPEG 2000).
"""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cxr.errors import UnreadableError
from cxr.images import dicom_file, jpeg
from cxr.images.dicom_file import HTJ2K, JPEG_2000, JPEG_BASELINE, JPEG_EXTENDED, JPEG_LOSSLESS, JPEG_LS, RLE, whole

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.pixels.decoders.base import DecodeRunner

PLUGIN = "cxr"
DECODER_DEPENDENCIES = dict.fromkeys(dicom_file.DECODED, ("imagecodecs",))  # asked for by pydicom
START_OF_FRAME = {0xC0, 0xC1, 0xC2, 0xC3, 0xF7}
"""JPEG baseline, extended, progressive and lossless; JPEG-LS."""
SEQUENTIAL = {0xC0, 0xC1, 0xC3}
SAMPLES = {"MONOCHROME1": 1, "MONOCHROME2": 1, "RGB": 3, "YBR_FULL": 3, "YBR_FULL_422": 3}
SAMPLES |= {"YBR_PARTIAL_422": 3, "YBR_RCT": 3, "YBR_ICT": 3}
"""Samples of a pixel, by photometric interpretation; others (palettes, CMYK, HSV) are no radiographs."""
MAX_BOXES = 64
BOX_HEADER_BYTES = 8
"""Of JP2: length and type."""
TAIL_BYTES = 4
TAIL_PIXELS, TAIL_BLOCKS = 64, 20
"""How many pixels of a lossless JPEG, or blocks of another, the last bytes can hold: a bit a pixel, two a block."""


class _PassOnError(BaseException):
    """Carries an error through pydicom, which turns every Exception of a decoder into a RuntimeError."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


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


def decode(dataset: "Dataset") -> tuple[NDArray[Any], str]:
    """Return the stored values, shape (rows, columns) or (rows, columns, 3), and what their samples mean.

    Values are integers as wide as BitsAllocated, with the bits that HighBit and BitsStored name and the sign that
    PixelRepresentation names. Samples of colour images are as encoded: nothing has been converted to RGB except by
    JPEG 2000's own transforms, and the second value is the photometric interpretation that is still in force.

    Raises:
        UnreadableError: damaged, truncated, an impossible description of the pixels, or `missing_decoder`.
        MemoryError: this machine is short of memory, which says nothing about the image.
    """
    try:
        return _decode(dataset)
    except _PassOnError as passed:
        raise passed.error from None
    except (UnreadableError, MemoryError):
        raise
    except Exception as error:  # pydicom raises AttributeError, ValueError, NotImplementedError, RuntimeError, …
        raise UnreadableError("damaged", f"DICOM that cannot be decoded ({type(error).__name__})") from None


def _decode(dataset: "Dataset") -> tuple[NDArray[Any], str]:
    from pydicom.pixels.decoders.base import get_decoder

    syntax = dataset.file_meta.TransferSyntaxUID
    _require_decoder(dataset, syntax)
    options = _options(dataset)
    stored, high, allocated = (whole(dataset, name) for name in ("BitsStored", "HighBit", "BitsAllocated"))
    is_encapsulated = syntax not in dicom_file.NATIVE
    is_shifted = high != stored - 1
    if is_shifted and is_encapsulated and syntax != RLE:
        raise UnreadableError("damaged", f"{dicom_file.name_of('HighBit')} is not BitsStored - 1 in a compressed image")
    decoder: Any = get_decoder(syntax)
    if not is_encapsulated:
        _require_length(dataset, options["photometric_interpretation"])
    elif PLUGIN not in decoder.available_plugins:
        decoder.add_plugin(PLUGIN, (__name__, "decode_frame"))
    if syntax in (*JPEG_2000, *HTJ2K):
        _require_code_stream(dataset)
    values, properties = decoder.as_array(
        dataset,
        index=0,
        raw=True,
        decoding_plugin=PLUGIN if is_encapsulated else "",
        **options | {"correct_unused_bits": not is_shifted},
    )
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    if is_shifted:
        values = (values << (allocated - 1 - high)) >> (allocated - stored)
    is_partial = _declared(dataset) == "YBR_PARTIAL_422"
    return values, "YBR_PARTIAL_422" if is_partial else str(properties["photometric_interpretation"])


def _options(dataset: "Dataset") -> dict[str, Any]:
    """Return the description of the pixels as pydicom wants it, each value held against the standard."""
    samples, allocated, stored, high, sign = (
        whole(dataset, name)
        for name in ("SamplesPerPixel", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation")
    )
    if allocated not in (1, 8, 16, 32):
        raise UnreadableError("unsupported_format", f"{dicom_file.name_of('BitsAllocated')} is not 1, 8, 16 or 32")
    if not 1 <= stored <= allocated or not stored - 1 <= high < allocated:
        raise UnreadableError("damaged", f"{dicom_file.name_of('HighBit')} and BitsStored do not fit BitsAllocated")
    if sign not in (0, 1):
        raise UnreadableError("damaged", f"{dicom_file.name_of('PixelRepresentation')} is not 0 or 1")
    declared = _declared(dataset)
    if declared not in SAMPLES:
        raise UnreadableError(
            "unsupported_format", f"{dicom_file.name_of('PhotometricInterpretation')} is no grey scale, RGB or YBR"
        )
    if samples != SAMPLES[declared] or (samples == 3 and sign):
        raise UnreadableError("damaged", f"{dicom_file.name_of('SamplesPerPixel')} contradicts its other tags")
    return {
        "number_of_frames": 1,
        "rows": whole(dataset, "Rows"),
        "columns": whole(dataset, "Columns"),
        "planar_configuration": whole(dataset, "PlanarConfiguration", 0),
        # pydicom expands pairs of this layout, whatever range their values have
        "photometric_interpretation": "YBR_FULL_422" if declared == "YBR_PARTIAL_422" else declared,
    }


def _declared(dataset: "Dataset") -> str:
    return dicom_file.photometric_interpretation(dataset)


def _require_length(dataset: "Dataset", photometric: str) -> None:
    """Raise UnreadableError where native pixels are cut off, or are twice as many as declared or more."""
    sizes = [whole(dataset, name) for name in ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated")]
    expected = (sizes[0] * sizes[1] * sizes[2] * sizes[3] + 7) // 8
    if photometric == "YBR_FULL_422":
        expected = expected * 2 // 3
    found = len(dataset.PixelData)
    if found < expected:
        raise UnreadableError("truncated", f"DICOM with {found:,} of {expected:,} bytes of pixels")
    if found >= 2 * expected:
        raise UnreadableError("damaged", f"DICOM with {found:,} bytes of pixels where {expected:,} are declared")


def _require_code_stream(dataset: "Dataset") -> None:
    """Raise UnreadableError where the boxes before a JPEG 2000 image do not lead to it.

    pydicom follows them from length to length, for ever where a length is 0. Source: T.800 annex I.4.
    """
    from pydicom.encaps import get_frame

    frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
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


def _require_decoder(dataset: "Dataset", syntax: str) -> None:
    is_pillows = syntax in (JPEG_BASELINE, *JPEG_2000) or (
        syntax == JPEG_EXTENDED and whole(dataset, "BitsStored") == 8
    )
    if is_pillows or syntax in (*dicom_file.NATIVE, RLE) or importlib.util.find_spec("imagecodecs"):
        return
    from pydicom.uid import UID

    raise UnreadableError(
        "missing_decoder", f"{UID(syntax).name} needs imagecodecs: install cxr with the extra [dicom], then run again"
    )


def is_available(_syntax: str) -> bool:
    """Return True: asked by pydicom of every decoder. What is missing has been refused before."""
    return True


def decode_frame(frame: bytes, runner: "DecodeRunner") -> bytes | bytearray:
    """Return a frame's pixels as pydicom wants them; its errors arrive unchanged at `decode`."""
    try:
        return _decode_frame(frame, runner)
    except (UnreadableError, MemoryError) as error:
        raise _PassOnError(error) from None


def _decode_frame(frame: bytes, runner: "DecodeRunner") -> bytes | bytearray:
    from pydicom.pixels.decoders import pillow

    syntax = runner.transfer_syntax
    if syntax == RLE:
        return _decode_rle(frame, runner)
    header = read_frame_header(frame)
    wanted = (runner.rows, runner.columns, runner.samples_per_pixel)
    if (header.rows, header.columns, header.samples) != wanted:
        raise UnreadableError("damaged", "DICOM whose compressed frame has another size than its header")
    if syntax in JPEG_2000:
        try:
            return pillow._decode_frame(frame, runner)
        except (OSError, ValueError):  # colour of more than 8 bits, which Pillow would cut; some files of JP2 boxes
            return _decode_imagecodecs(frame, runner, header)
    if (
        header.process in (0xC0, 0xC1, 0xC2)
        and header.bits == 8
        and (syntax == JPEG_BASELINE or runner.bits_stored == 8)
    ):
        pixels = pillow._decode_frame(frame, runner)
        if header.adobe_transform == 1:  # Pillow has converted them
            runner.set_option("photometric_interpretation", "RGB")
        _widen(runner, 1)
        jpeg.require_whole(frame)
        return pixels
    return _decode_imagecodecs(frame, runner, header)


def _widen(runner: "DecodeRunner", itemsize: int) -> None:
    """Tell pydicom how many bytes a decoded sample has, which depends on the frame and not on the dataset."""
    runner.set_option("bits_allocated", 8 * itemsize)
    runner.set_option("bits_stored", min(runner.bits_stored, 8 * itemsize))


def _decode_imagecodecs(frame: bytes, runner: "DecodeRunner", header: FrameHeader) -> bytes:
    try:
        import imagecodecs  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise UnreadableError(
            "missing_decoder", "this JPEG needs imagecodecs: install cxr with the extra [dicom], then run again"
        ) from None
    syntax = runner.transfer_syntax
    decoders: dict[bool, Callable[[bytes], NDArray[Any]]] = {
        syntax in (JPEG_EXTENDED, JPEG_BASELINE, *JPEG_LOSSLESS): imagecodecs.jpeg8_decode,
        syntax in JPEG_LS: imagecodecs.jpegls_decode,
        syntax in (*JPEG_2000, *HTJ2K): imagecodecs.jpeg2k_decode,
    }
    decoder = decoders[True]
    if header.process in (0xC0, 0xC1, 0xC2) and header.samples != 1:
        raise UnreadableError("unsupported_format", "colour JPEG of 12 bits")
    pixels = decoder(frame)
    _widen(runner, pixels.itemsize)
    runner.set_option("planar_configuration", 0)
    if str(runner.photometric_interpretation) in ("YBR_RCT", "YBR_ICT"):
        runner.set_option("photometric_interpretation", "RGB")
    _require_complete(frame, pixels.tobytes(), header, lambda data: decoder(data).tobytes())
    return pixels.tobytes()


def _decode_rle(frame: bytes, runner: "DecodeRunner") -> bytearray:
    """Return the pixels of an RLE frame, planes apart; no segment grows beyond its plane (PS3.5 annex G)."""
    n_pixels = runner.rows * runner.columns
    n_bytes = runner.bits_allocated // 8
    n_segments = runner.samples_per_pixel * n_bytes
    starts = [int.from_bytes(frame[4 * k : 4 * k + 4], "little") for k in range(1, n_segments + 1)]
    if runner.bits_allocated % 8 or int.from_bytes(frame[:4], "little") != n_segments or sorted(starts) != starts:
        raise UnreadableError("damaged", "DICOM whose RLE segments do not fit its header")
    pixels = bytearray(n_pixels * n_segments)
    for k, (start, end) in enumerate(zip(starts, [*starts[1:], len(frame)], strict=True)):
        sample, significance = divmod(k, n_bytes)
        plane = _unpack(frame[start:end], n_pixels)
        offset = sample * n_pixels * n_bytes + n_bytes - 1 - significance
        pixels[offset : (sample + 1) * n_pixels * n_bytes : n_bytes] = plane
    runner.set_option("planar_configuration", 1)
    return pixels


def _unpack(segment: bytes, length: int) -> bytearray:
    """Return the first `length` bytes of a run-length encoded segment."""
    unpacked, position, end = bytearray(), 0, len(segment)
    while position < end and len(unpacked) < length:
        n = segment[position]
        if n < 128:
            unpacked += segment[position + 1 : position + 2 + n]
            position += n + 2
        elif n > 128:
            unpacked += segment[position + 1 : position + 2] * (257 - n)
            position += 2
        else:
            position += 1
    if len(unpacked) < length:
        raise UnreadableError("truncated", f"DICOM with {len(unpacked):,} of {length:,} bytes in an RLE segment")
    return unpacked[:length]


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


def _require_complete(frame: bytes, pixels: bytes, header: FrameHeader, decoder: Callable[[bytes], bytes]) -> None:
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
