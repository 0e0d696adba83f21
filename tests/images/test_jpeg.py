import io
import re

import numpy as np
import pytest
from PIL import Image

from cxr.errors import UnreadableError
from cxr.images.decoding import decode_image

END = b"\xff\xd9"
RNG = np.random.default_rng(0)
SMOOTH = Image.fromarray(RNG.integers(0, 256, (24, 30)).astype(np.uint8)).resize((600, 480), Image.Resampling.BICUBIC)
NOISY = Image.fromarray((np.asarray(SMOOTH) * 0.8 + RNG.integers(0, 40, (480, 600))).astype(np.uint8))
WAYS = {"baseline": {}, "progressive": {"progressive": True}, "restarts": {"restart_marker_rows": 1}}


def encode(mode: str, way: str, image: Image.Image = NOISY) -> bytes:
    stream = io.BytesIO()
    image.convert(mode).save(stream, "JPEG", quality=90, **WAYS[way])
    return stream.getvalue()


def reason(data: bytes) -> str:
    with pytest.raises(UnreadableError) as refused:
        decode_image(data, 0)
    return refused.value.reason


def first_pixels(data: bytes) -> int:
    return data.index(b"\xff\xda") + 20


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_missing_data_is_found(mode: str, way: str) -> None:
    data = encode(mode, way)
    start = first_pixels(data)
    third = (len(data) - start) // 3
    decode_image(data, 0)
    assert reason(data[: start + third] + END) == "truncated"
    assert reason(data[: len(data) // 2]) == "truncated"
    assert reason(data[:-2]) == "truncated"
    zeroed = data[: start + third] + bytes(third) + data[start + 2 * third :]
    assert reason(zeroed) in ("damaged", "truncated")


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_restart_markers_out_of_order_are_found(mode: str) -> None:
    data = encode(mode, "restarts")
    start = first_pixels(data)
    markers = [start + match.start() for match in re.finditer(rb"\xff[\xd0-\xd7]", data[start:])]
    assert reason(data[: markers[3]] + data[markers[6] :]) == "damaged"
    moved = bytearray(data)
    moved[markers[3] + 1] = 0xD0 + (moved[markers[3] + 1] - 0xD0 + 3) % 8
    assert reason(bytes(moved)) == "damaged"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_few_bytes_of_padding_and_bytes_after_the_image_do_no_harm(mode: str, way: str) -> None:
    data = encode(mode, way)
    expected = np.asarray(decode_image(data, 0).grey)
    for whole in (data + bytes(999), data[:-2] + b"\0" + END, data[:-2] + bytes(4) + END):
        np.testing.assert_array_equal(np.asarray(decode_image(whole, 0).grey), expected)
    assert reason(data[:-2] + b"\x55" * 999 + END) == "damaged"
    assert reason(data[:-2] + bytes(range(1, 13)) + END) == "damaged", "data that is left over"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("side", [480, 240, 120, 60])
def test_grey_has_the_pixels_that_pillow_decodes_at_the_same_scale(side: int, way: str) -> None:
    data = encode("L", way, NOISY.resize((4 * side + 3, 4 * side)))
    file = Image.open(io.BytesIO(data))
    file.draft("L", (256, 256))
    np.testing.assert_array_equal(np.asarray(decode_image(data, 0).grey), np.asarray(file))


def with_scans(n: int, side: int) -> bytes:
    data = encode("L", "progressive", Image.new("L", (side, side)))
    start, end = data.rindex(b"\xff\xda"), data.rindex(END)
    n_more = n - data.count(b"\xff\xda")
    return data[:end] + data[start:end] * n_more + END


def test_a_progressive_jpeg_of_two_thousand_scans_is_refused() -> None:
    assert reason(with_scans(2000, 3000)) == "too_complex"


def test_the_larger_the_image_the_fewer_its_scans() -> None:
    assert reason(with_scans(101, 64)) == "too_complex"
    assert reason(with_scans(31, 9_990)) == "too_complex"
    decode_image(encode("RGB", "progressive", Image.new("RGB", (9_990, 1_000))), 0)


@pytest.mark.parametrize("part", [b"\xff\xfe\0\2", b"\xff", b"\0"])
def test_millions_of_segments_or_stray_bytes_are_refused(part: bytes) -> None:
    data = encode("L", "baseline")
    assert reason(data[:2] + part * 2_000_000 + data[2:]) in ("too_complex", "not_an_image")


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": "4:4:4"}])
def test_colour_has_the_luma_and_chroma_that_pillow_decodes(options: dict[str, object]) -> None:
    tinted = Image.merge("RGB", [NOISY, NOISY.transpose(Image.Transpose.ROTATE_180), SMOOTH])
    stream = io.BytesIO()
    tinted.save(stream, "JPEG", **options)
    file = Image.open(io.BytesIO(stream.getvalue()))
    file.draft("YCbCr", (256, 256))
    picture = decode_image(stream.getvalue(), 0)
    np.testing.assert_array_equal(np.asarray(picture.grey), np.asarray(file)[..., 0])
    small = np.asarray(file.resize((64, 64), Image.Resampling.BOX), dtype=float) - 128
    assert picture.chroma == pytest.approx(np.hypot(small[..., 1], small[..., 2]).mean())


def test_colour_that_is_stored_as_rgb_is_read() -> None:
    stream = io.BytesIO()
    NOISY.convert("RGB").save(stream, "JPEG", quality=95, keep_rgb=True)
    assert b"Adobe" in stream.getvalue()
    assert b"JFIF" not in stream.getvalue()
    expected = np.asarray(Image.open(io.BytesIO(stream.getvalue())).convert("L"), dtype=int)
    assert np.abs(np.asarray(decode_image(stream.getvalue(), 480).grey) - expected).max() <= 1
