import io
import pickle
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cxr.errors import UnreadableError
from cxr.images.decoding import Header, decode_image, open_image

GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6


def chunk(kind: bytes, body: bytes = b"") -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def write_png(rows: list[bytes], width: int, bits: int, colour: int, *more: bytes, filter: int = 0) -> bytes:
    """Return a PNG written by hand: rows of packed samples, and chunks that come before the pixels."""
    header = struct.pack(">IIBBBBB", width, len(rows), bits, colour, 0, 0, 0)
    pixels = zlib.compress(b"".join(bytes([filter]) + row for row in rows))
    return b"".join([b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", header), *more, chunk(b"IDAT", pixels), chunk(b"IEND")])


def write_16_bits(levels: NDArray[np.int64], colour: int) -> bytes:
    return write_png([row.astype(">u2").tobytes() for row in levels], levels.shape[1], 16, colour)


def luma_and_chroma(rgb: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Return what ITU-R BT.601 says of RGB in levels of 255."""
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    return luma, float(np.hypot((blue - luma) / 1.772, (red - luma) / 1.402).mean())


def reason(data: bytes) -> str:
    with pytest.raises(UnreadableError) as refused:
        decode_image(data, 0)
    return refused.value.reason


LEVELS_12_BIT = np.random.default_rng(0).integers(0, 4096, (48, 64, 4))


@pytest.mark.parametrize("high", [255, 4095, 16383, 65535])
@pytest.mark.parametrize("colour", [RGB, RGBA])
def test_colour_of_16_bits_is_scaled_by_its_own_range(colour: int, high: int) -> None:
    levels = LEVELS_12_BIT * high // 4095
    levels = levels[..., :3] if colour == RGB else levels
    picture = decode_image(write_16_bits(levels, colour), 0)
    rgb = levels[..., :3].astype(float)
    expected, chroma = luma_and_chroma((rgb - rgb.min()) * 255 / (rgb.max() - rgb.min()))
    assert np.abs(np.asarray(picture.grey) - expected).max() <= 2
    assert abs(picture.chroma - chroma) <= 1
    assert open_image(write_16_bits(levels, colour)).header.bits == 16


@pytest.mark.parametrize("colour", [GREY, GREY_ALPHA])
def test_grey_of_16_bits_is_scaled_by_its_own_range_and_its_alpha_is_ignored(colour: int) -> None:
    levels = LEVELS_12_BIT[..., :1] + 1000
    samples = levels if colour == GREY else np.concatenate([levels, LEVELS_12_BIT[..., 3:] * 16], axis=-1)
    picture = decode_image(write_16_bits(samples, colour), 0)
    expected = (levels[..., 0] - levels.min()) * 255 / (levels.max() - levels.min())
    assert np.abs(np.asarray(picture.grey) - expected).max() <= 0.5
    assert (picture.chroma, open_image(write_16_bits(samples, colour)).header.bits) == (0.0, 16)


@pytest.mark.parametrize(("bits", "step"), [(1, 255), (2, 85), (4, 17)])
def test_grey_of_few_bits_is_spread_over_all_levels(bits: int, step: int) -> None:
    levels = np.random.default_rng(1).integers(0, 2**bits, (40, 48))
    as_bits = np.unpackbits(levels[..., None].astype(np.uint8), axis=-1)[..., -bits:]
    rows = [np.packbits(row).tobytes() for row in as_bits.reshape(40, -1)]
    transparent = chunk(b"tRNS", struct.pack(">H", 1))
    for data in (write_png(rows, 48, bits, GREY), write_png(rows, 48, bits, GREY, transparent)):
        np.testing.assert_array_equal(np.asarray(decode_image(data, 0).grey), levels * step)
        assert open_image(data).header.bits == bits


def test_a_palettes_colours_are_used_and_its_transparency_is_not() -> None:
    palette = np.repeat(np.arange(0, 256, 5, dtype=np.uint8)[:, None], 3, axis=1)
    index = np.random.default_rng(2).integers(0, len(palette), (40, 48)).astype(np.uint8)
    more = chunk(b"PLTE", palette.tobytes()), chunk(b"tRNS", bytes(len(palette)))
    data = write_png([row.tobytes() for row in index], 48, 8, PALETTE, *more)
    assert np.abs(np.asarray(decode_image(data, 0).grey).astype(int) - palette[index, 0]).max() <= 1
    assert open_image(data).header == Header(48, 40, "P", 8)


@pytest.mark.parametrize("colour", [GREY_ALPHA, RGBA])
def test_alpha_of_8_bits_is_ignored_as_that_of_16_bits_is(colour: int) -> None:
    grey = np.linspace(0, 255, 40 * 48).round().reshape(40, 48, 1).astype(np.uint8)
    alpha = np.random.default_rng(3).integers(0, 256, (40, 48, 1), dtype=np.uint8)
    samples = np.concatenate([grey] * (1 if colour == GREY_ALPHA else 3) + [alpha], axis=-1)
    data = write_png([row.tobytes() for row in samples], 48, 8, colour)
    assert np.abs(np.asarray(decode_image(data, 0).grey).astype(int) - grey[..., 0]).max() <= 1


def test_an_interlaced_image_has_the_pixels_of_a_plain_one() -> None:
    levels = np.random.default_rng(4).integers(0, 256, (41, 50)).astype(np.uint8)
    passes = [levels[y::down, x::right] for x, y, right, down in _ADAM7]
    pixels = zlib.compress(b"".join(b"\0" + row.tobytes() for part in passes for row in part))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 50, 41, 8, 0, 0, 0, 1))
    whole = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", pixels) + chunk(b"IEND")
    np.testing.assert_array_equal(np.asarray(decode_image(whole, 0).grey), levels)
    short = zlib.compress(zlib.decompress(pixels)[:-200])
    assert reason(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", short) + chunk(b"IEND")) == "truncated"


_ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


NOISE = np.random.default_rng(5).integers(0, 256, (64, 64)).astype(np.uint8)
ROWS = [row.tobytes() for row in NOISE]
HEADER = chunk(b"IHDR", struct.pack(">IIBBBBB", 64, 64, 8, 0, 0, 0, 0))
STREAM = zlib.compress(b"".join(b"\0" + row for row in ROWS))


def assembled(*chunks: bytes) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + HEADER + b"".join(chunks)


@pytest.mark.parametrize("colour", [GREY, RGB, GREY_ALPHA, RGBA])
@pytest.mark.parametrize("bits", [8, 16])
def test_rows_that_were_never_written_are_found(colour: int, bits: int) -> None:
    samples = {GREY: 1, RGB: 3, GREY_ALPHA: 2, RGBA: 4}[colour]
    whole = write_png([bytes(range(64)) * (samples * bits // 8)] * 64, 64, bits, colour)
    decode_image(whole, 0)
    inflated = zlib.decompress(whole[41:-16])
    half = chunk(b"IDAT", zlib.compress(inflated[: len(inflated) // 2]))
    assert reason(whole[:33] + half + chunk(b"IEND")) == "truncated"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (assembled(chunk(b"IDAT", STREAM)), "truncated"),
        (assembled(chunk(b"IDAT", STREAM), chunk(b"IEND"))[:-5], "truncated"),
        (assembled(chunk(b"IDAT", STREAM[:2000]), chunk(b"IEND")), "truncated"),
        (assembled(chunk(b"IDAT", STREAM[:-4]), chunk(b"IDAT"), chunk(b"IEND")), "truncated"),
        (assembled(chunk(b"IEND")), "truncated"),
        (assembled(chunk(b"IDAT", STREAM)[:-1] + b"?", chunk(b"IEND")), "damaged"),
        (assembled(chunk(b"IDAT", STREAM[:1000] + b"\xff" * 9 + STREAM[1009:]), chunk(b"IEND")), "damaged"),
        (assembled(chunk(b"tEXt", b"a\0b")[:-1] + b"?", chunk(b"IDAT", STREAM), chunk(b"IEND")), "damaged"),
        (write_png(ROWS, 64, 8, GREY, filter=9), "damaged"),
        (b"\x89PNG\r\n\x1a\n", "truncated"),
        (b"\x89PNG\r\n\x1a\n" + chunk(b"IDAT", STREAM) + HEADER, "damaged"),
        (assembled(chunk(b"IDAT", STREAM[:99]), chunk(b"IDAT", STREAM[99:]), chunk(b"IEND"), b"more"), "whole"),
    ],
)
def test_a_damaged_file_is_found_and_a_whole_one_is_read(data: bytes, expected: str) -> None:
    if expected == "whole":
        np.testing.assert_array_equal(np.asarray(decode_image(data, 0).grey), NOISE)
    else:
        assert reason(data) == expected


def test_an_orientation_after_the_pixels_counts() -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    data = assembled(chunk(b"IDAT", STREAM), chunk(b"eXIf", exif.tobytes()[6:]), chunk(b"IEND"))
    np.testing.assert_array_equal(np.asarray(decode_image(data, 0).grey), NOISE[::-1, ::-1])


def test_two_million_chunks_are_refused_after_a_hundred_thousand() -> None:
    data = assembled(chunk(b"tEXt") * 2_000_000, chunk(b"IDAT", STREAM), chunk(b"IEND"))
    with pytest.raises(UnreadableError, match="PNG of over 100,000 chunks"):
        decode_image(data, 0)


GIANT = """
import resource, sys
from cxr.images.decoding import decode_image
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
grey = decode_image(sys.stdin.buffer.read(), 256).grey
print(grey.size, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_a_large_image_of_16_bits_takes_four_bytes_a_pixel() -> None:
    side = 6000
    stream = zlib.compressobj(1)
    rows = [stream.compress(bytes(2 * side + 1)) for _ in range(side)] + [stream.flush()]
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 16, GREY, 0, 0, 0))
    data = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"".join(rows)) + chunk(b"IEND")
    done = subprocess.run([sys.executable, "-c", GIANT], input=data, capture_output=True, check=True)
    width, _, mebibytes = done.stdout.decode().translate(str.maketrans("(,)", "   ")).split()
    assert (int(width), int(mebibytes) * 2**20 / side**2 < 5) == (side, True)


SHORT = """
import pickle, resource, sys
from cxr.images.reading import read
small, large = pickle.load(sys.stdin.buffer)
assert read(small, 64).refused is None
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
for mebibytes in map(int, sys.argv[1:]):
    resource.setrlimit(resource.RLIMIT_AS, (used + mebibytes * 2**20, resource.RLIM_INFINITY))
    refused = read(large, 64).refused
    print(refused.reason if refused else "read")
"""


def read_while_short(image: Image.Image, format: str, *mebibytes: int) -> list[str]:
    """Return what comes of an image while the process may grow by so much."""
    options = {"progressive": True} if format == "JPEG" else {}
    streams = io.BytesIO(), io.BytesIO()
    image.resize((64, 64)).save(streams[0], format, **options)
    image.save(streams[1], format, **options)
    files = pickle.dumps([stream.getvalue() for stream in streams])
    command = [sys.executable, "-c", SHORT, *map(str, mebibytes)]
    return subprocess.run(command, input=files, capture_output=True, check=True).stdout.decode().split()


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS holds on Linux alone")
@pytest.mark.parametrize(("format", "mode"), [("PNG", "I;16"), ("PNG", "RGB"), ("JPEG", "L"), ("JPEG", "RGB")])
def test_a_shortage_of_memory_is_never_the_images_fault(format: str, mode: str) -> None:
    side = 4000
    image = Image.fromarray(np.zeros((side, side), np.uint16)) if mode == "I;16" else Image.new(mode, (side, side))
    found = read_while_short(image, format, 0, 1, 2, 5, 10, 15, 20, 25, 30, 40, 50, 60, 80, 100, 400)
    assert set(found) == {"read", "short_of_memory"}
