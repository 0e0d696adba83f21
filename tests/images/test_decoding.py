import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from cxr.errors import UnreadableError
from cxr.images.decoding import Header, decode_square, open_image


def encode(image: Image.Image, format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def png_header(width: int, height: int) -> bytes:
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + chunk
        + struct.pack(">I", zlib.crc32(chunk))
        + b"\0\0\1\0IDAT"
        + bytes(40)
    )


GRADIENT = Image.fromarray(np.linspace(0, 255, 200 * 300).reshape(200, 300).astype(np.uint8))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"this is text", "not an image"),
        (b"GIF89a" + bytes(50), "not an image"),
        (encode(GRADIENT, "JPEG")[:-900], "truncated"),
        (encode(GRADIENT, "PNG")[:400], "truncated"),
        (png_header(40_000, 40_000), "too large"),
        (png_header(12_000, 9_000), "too large: 12000×9000"),
        (encode(Image.new("L", (1, 1)), "PNG"), "too small: 1×1"),
    ],
)
def test_an_image_that_cannot_be_used_has_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(UnreadableError, match=reason):
        decode_square(data, 64)


def test_a_header_holds_size_mode_and_bits() -> None:
    assert open_image(encode(GRADIENT.convert("RGB"), "PNG")).header == Header(300, 200, "RGB", 8)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "1", "CMYK", "I;16"])
def test_every_mode_becomes_the_same_grey_square(mode: str) -> None:
    if mode == "I;16":
        image = Image.fromarray(np.asarray(GRADIENT).astype(np.uint16) * 16)  # 12 bits in 16, as scanners export
    else:
        image = GRADIENT.convert(mode, dither=Image.Dither.NONE)
    square = decode_square(encode(image, "JPEG" if mode == "CMYK" else "PNG"), 64)
    assert (square.dtype, square.shape) == (np.uint8, (64, 64))
    expected = np.asarray(GRADIENT.resize((64, 64), Image.Resampling.BILINEAR), dtype=float)
    tolerance = 130 if mode == "1" else 12
    assert np.abs(square - expected).max() <= tolerance


def test_scaling_while_decoding_changes_little() -> None:
    smooth = GRADIENT.resize((1600, 1200), Image.Resampling.BICUBIC)
    data = encode(smooth, "JPEG", quality=95)
    whole = np.asarray(
        Image.open(io.BytesIO(data)).convert("L").resize((64, 64), Image.Resampling.BILINEAR), dtype=float
    )
    assert np.abs(decode_square(data, 64) - whole).max() <= 4


def test_an_image_lying_on_its_side_is_set_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = GRADIENT.transpose(Image.Transpose.ROTATE_90)
    upright = decode_square(encode(GRADIENT, "PNG"), 64)
    assert np.abs(decode_square(encode(turned, "PNG", exif=exif), 64).astype(int) - upright).max() <= 2


@pytest.mark.parametrize("format", ["BMP", "TIFF"])
def test_another_format_is_named_however_large_it_is(format: str) -> None:
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (300, 400), dtype=np.uint8)).save(stream, format)
    with pytest.raises(UnreadableError, match=f"unsupported format: {format}, not JPEG, PNG or DICOM"):
        decode_square(stream.getvalue(), 64)
