import io
import itertools

import numpy as np
import pytest
from PIL import Image

from cxr.errors import UnreadableError
from cxr.images.decoding import decode_image
from cxr.images.jpeg_scans import SCAN
from tests.images.test_jpeg import NOISY, SMOOTH, encode
from tests.support.jpeg import END, apart


def reason(data: bytes) -> str:
    with pytest.raises(UnreadableError) as refused:
        decode_image(data, 0)
    return refused.value.reason


def scans_of(data: bytes) -> list[int]:
    """Where each scan begins; the tables ahead of it belong to it."""
    starts, position = [], data.index(SCAN)
    while position >= 0:
        starts.append(position)
        position = data.find(SCAN, position + 1)
    return starts


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_a_progressive_image_without_its_last_scans_is_refused(mode: str) -> None:
    data = encode(mode, "progressive")
    starts = scans_of(data)
    assert len(starts) >= 6
    decode_image(data, 0)
    for start in starts[1:]:
        before = data.rindex(b"\xff\xc4", 0, start) if b"\xff\xc4" in data[start - 300 : start] else start
        assert reason(data[:before] + END) == "truncated"
        assert reason(data[:start] + END) == "truncated"


def test_a_progressive_image_without_a_scan_in_its_middle_is_refused() -> None:
    data = encode("L", "progressive")
    starts = [*scans_of(data), len(data) - 2]
    for start, end in itertools.pairwise(starts[1:]):
        assert reason(data[:start] + data[end:]) in ("truncated", "damaged")


def planes() -> list[bytes]:
    images = NOISY, SMOOTH, NOISY.transpose(Image.Transpose.ROTATE_180)
    return [encode("L", "baseline", image) for image in images]


def test_a_colour_whose_scan_is_missing_is_noticed() -> None:
    whole = apart(planes())
    grey = np.asarray(Image.open(io.BytesIO(planes()[0])))
    found = np.asarray(decode_image(whole, 480).grey).astype(int)
    assert np.abs(found - grey).max() <= 1
    for start in scans_of(whole)[1:]:
        assert reason(whole[:start] + END) == "truncated"


def test_millions_of_segments_between_scans_are_refused() -> None:
    whole = apart(planes())
    second = scans_of(whole)[1]
    assert reason(whole[:second] + b"\xff\xfe\0\2" * 1_000_000 + whole[second:]) == "too_complex"


def test_a_sequential_image_whose_scan_leaves_fields_empty_is_read_and_missed_if_it_ends_early() -> None:
    data = encode("L", "baseline")
    fields = data.index(SCAN) + 7
    assert data[fields : fields + 3] == b"\0\x3f\0"
    sloppy = data[:fields] + bytes(3) + data[fields + 3 :]
    np.testing.assert_array_equal(np.asarray(decode_image(sloppy, 0).grey), np.asarray(decode_image(data, 0).grey))
    assert reason(sloppy[: len(data) // 2] + END) == "truncated"


def test_arithmetic_coding_in_which_missing_data_cannot_be_found_is_refused() -> None:
    data = encode("L", "baseline")
    at = data.index(b"\xff\xc0")
    for process in (0xC9, 0xCA):
        with pytest.raises(UnreadableError, match="unsupported format: JPEG with arithmetic coding"):
            decode_image(data[: at + 1] + bytes([process]) + data[at + 2 :], 0)
