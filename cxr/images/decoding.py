"""From an image's bytes to one grey square.

An image is decoded once: libjpeg scales while it decodes, the result is stretched to a uint8 square and kept in
`cache/`, keyed by the image's content and the square's size, for all folds and all later runs. Scaled decoding differs
from decoding at full size by half a grey level on average (120 originals, 224 px; `benchmarks/decoding.py`). An image
that cannot be decoded, or not in full, is an error with a reason, never a black square. What would take long is known
from the header and refused before it is decoded (`cxr.images.jpeg`, `cxr.images.png`).

Why images are stretched: the whole image is kept, borders included, and the image's shape, which differs between
scanners, is not shown to the model as empty margins.
"""

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from cxr.errors import UnreadableError
from cxr.images import jpeg, jpeg_scans, png
from cxr.images.dicom import radiograph
from cxr.images.dicom.file import MAX_PIXELS, is_dicom
from cxr.storage.cache_folder import CacheFolder
from cxr.storage.image_arrays import ImageArrays

DECODER = "v3"
"""Part of the cache's key: change it whenever decoding gives other pixels, and images are decoded again."""
OTHER_FORMATS = ("BMP", "GIF", "JPEG2000", "TIFF", "WEBP")
"""Recognised so that the refusal can name them; never decoded."""
MIN_SIDE_PX = 32
DECODED_PX = 256
"""Images are decoded to at least this side, whatever square is asked for, so that squares of all sizes agree."""
ORIENTATION = 0x0112
"""EXIF tag."""


@dataclass(frozen=True)
class Header:
    """What an image's header states."""

    width: int
    """In pixels, as stored."""
    height: int
    mode: str
    """Pillow's mode, or DICOM's photometric interpretation."""
    bits: int
    """Bits per channel."""


@dataclass(frozen=True)
class Picture:
    """A decoded image."""

    grey: Image.Image
    """Mode L, upright; scaled down, but not below 256 px or the size asked for."""
    chroma: float
    """Mean distance of the pixels from grey, in levels of 255; 0 for a grey image."""


@dataclass(frozen=True)
class EncodedImage:
    """An image whose header was parsed and whose pixels are not decoded yet."""

    header: Header
    exif: Callable[[], Image.Exif]
    pixels: Callable[[int], Image.Image]
    """Decodes them, given a side in pixels that they are not scaled below; called once."""

    def decode(self, least_px: int) -> Picture:
        """Return the image in grey; call it once.

        Args:
            least_px: the picture has at least this many pixels a side, and at least 256, if the image has as many.

        Raises:
            UnreadableError: the image is truncated or damaged.
            MemoryError: this machine is short of memory, which says nothing about the image.
        """
        try:
            return _picture(self.pixels(max(least_px, DECODED_PX)), self.exif())
        except (UnreadableError, MemoryError):
            raise
        except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, cv2.error, …
            reason = "truncated" if "truncated" in str(error) else "damaged"
            raise UnreadableError(reason, str(error)) from error


def open_image(data: bytes) -> EncodedImage:
    """Parse an image's header and leave its pixels encoded.

    Raises:
        UnreadableError: the bytes are empty, no JPEG, PNG or DICOM image, or in too many parts; or the image is under
            32 px on a side or over 100 million pixels.
    """
    image = _open_dicom(data) if is_dicom(data) else _open_file(data)
    header = image.header
    if header.width * header.height > MAX_PIXELS:
        raise UnreadableError("too_large", f"{header.width}×{header.height}, at most {MAX_PIXELS:,} pixels")
    if min(header.width, header.height) < MIN_SIDE_PX:
        raise UnreadableError("too_small", f"{header.width}×{header.height}, at least {MIN_SIDE_PX} px a side")
    return image


def decode_image(data: bytes, least_px: int) -> Picture:
    """Return the image in grey, at least `least_px` (and 256) pixels a side if it has as many.

    Grey is luma for colour images. 16-bit and DICOM images are scaled by their own range, because a 12-bit export would
    be almost black if only the top byte were taken.

    Raises:
        UnreadableError: as for `open_image` and `EncodedImage.decode`.
    """
    return open_image(data).decode(least_px)


def decode_square(data: bytes, size: int) -> NDArray[np.uint8]:
    """Return the image as a grey square, shape (size, size); errors as for `decode_image`."""
    return stretch(decode_image(data, size).grey, size)


def stretch(grey: Image.Image, size: int) -> NDArray[np.uint8]:
    """Return a grey image stretched to a square, shape (size, size)."""
    return np.asarray(grey.resize((size, size), Image.Resampling.BILINEAR))


def open_prepared(cache: Path, size: int) -> ImageArrays:
    """Return the cache of the grey squares for models of this size, each of shape (size, size)."""
    return ImageArrays(CacheFolder(cache).prepared(DECODER, size), (size, size), np.uint8)


def _open_dicom(data: bytes) -> EncodedImage:
    dataset = radiograph.parse(data)
    header = Header(*radiograph.read_size(dataset))
    return EncodedImage(header, Image.Exif, lambda _side: radiograph.decode_pixels(dataset))


def _open_file(data: bytes) -> EncodedImage:
    if not data:
        raise UnreadableError("empty", "0 bytes")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # MAX_PIXELS is the stricter rule
            if data.startswith(png.SIGNATURE):
                return _open_png(data)
            if data.startswith(jpeg_scans.START):
                return _open_jpeg(data)
    except (UnreadableError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise UnreadableError("too_large", f"over {MAX_PIXELS:,} pixels") from error
    except Exception as error:
        raise _refusal(data) from error
    raise _refusal(data)


def _open_png(data: bytes) -> EncodedImage:
    chunks = png.find_chunks(data)
    file = png.read_header(data, chunks)
    header = Header(file.width, file.height, file.mode, png.read_bits(data))
    exif = partial(Image.Image.getexif, file)  # PngImageFile's own would decode the pixels
    return EncodedImage(header, exif, lambda _side: png.decode(data, chunks))


def _open_jpeg(data: bytes) -> EncodedImage:
    file = jpeg.read_header(data)
    header = Header(file.width, file.height, file.mode, 8)
    return EncodedImage(header, file.getexif, lambda side: jpeg.decode(data, file, side))


def _refusal(data: bytes) -> UnreadableError:
    """Return why bytes without a JPEG or PNG header are refused; of other formats only the header is read."""
    try:
        with Image.open(io.BytesIO(data), formats=OTHER_FORMATS) as image:
            return UnreadableError("unsupported_format", f"{image.format}, not JPEG, PNG or DICOM")
    except MemoryError:
        raise
    except Exception:  # as above
        return UnreadableError("not_an_image", "no JPEG, PNG or DICOM header")


def _picture(image: Image.Image, exif: Image.Exif) -> Picture:
    if image.mode == "L":
        grey, chroma = image, 0.0
    else:
        rgb = image if image.mode in ("RGB", "YCbCr") else image.convert("RGB")
        luma = rgb if rgb.mode == "YCbCr" else rgb.convert("YCbCr")
        grey, chroma = luma.getchannel("Y"), _mean_chroma(luma)
    if ORIENTATION in exif:
        grey.info["exif"] = exif.tobytes()
        grey = ImageOps.exif_transpose(grey)
    return Picture(grey, chroma)


def _mean_chroma(luma: Image.Image) -> float:
    """Return the mean distance from grey of an image in mode YCbCr, measured at 64 px."""
    small = np.asarray(luma.resize((64, 64), Image.Resampling.BOX))
    blue, red = small[..., 1].astype(np.float64) - 128.0, small[..., 2].astype(np.float64) - 128.0
    return float(np.sqrt(blue * blue + red * red).mean())
