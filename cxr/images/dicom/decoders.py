"""A DICOM's stored values, whatever its transfer syntax.

pydicom takes frames apart, unpacks native pixels and corrects signs. Compressed frames go through one function
here, whatever else is installed, so that an image has the same pixels on every machine: Pillow for JPEG Baseline
and JPEG 2000, imagecodecs (libjpeg-turbo, CharLS, OpenJPEG) for the rest. Before a decoder sees a frame, the size
that the frame itself declares is held against the dataset: neither can ask for memory that the other does not.

libjpeg fills missing data with grey, and its bindings drop the warning; `cxr.images.dicom.frames` looks before.

Source: PS3.5 section 8 and annexes A.4 and G.
"""

import importlib.util
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from cxr.errors import UnreadableError
from cxr.images.dicom import file as dicom_file
from cxr.images.dicom.file import HTJ2K, JPEG_2000, JPEG_BASELINE, JPEG_EXTENDED, JPEG_LOSSLESS, JPEG_LS, RLE, whole
from cxr.images.dicom.frames import FrameHeader, read_frame_header, require_code_stream, require_whole
from cxr.images.dicom.limits import require_few_fragments

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.pixels.decoders.base import DecodeRunner

PLUGIN = "cxr"
DECODER_DEPENDENCIES = dict.fromkeys(dicom_file.DECODED, ("imagecodecs",))  # asked for by pydicom
SAMPLES = {"MONOCHROME1": 1, "MONOCHROME2": 1, "RGB": 3, "YBR_FULL": 3, "YBR_FULL_422": 3}
SAMPLES |= {"YBR_PARTIAL_422": 3, "YBR_RCT": 3, "YBR_ICT": 3}
"""Samples of a pixel, by photometric interpretation; others (palettes, CMYK, HSV) are no radiographs."""


class _PassOnError(BaseException):
    """Carries an error through pydicom, which turns every Exception of a decoder into a RuntimeError."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


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
    from pydicom.encaps import get_frame
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
    else:
        require_few_fragments(dataset)
        if PLUGIN not in decoder.available_plugins:
            decoder.add_plugin(PLUGIN, (__name__, "decode_frame"))
    if syntax in (*JPEG_2000, *HTJ2K):
        require_code_stream(get_frame(dataset.PixelData, 0, number_of_frames=1))
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
    require_whole(frame, header)
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
