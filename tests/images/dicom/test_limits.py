"""Files that ask much of a parser; what a radiograph asks is read in every other test."""

import struct

import numpy as np
import pytest
from pydicom.encaps import encapsulate

from cxr.images.dicom import limits
from cxr.images.reading import read
from tests.images.dicom.test_decoders import INNER, by_pillow
from tests.support.images import make_dicom

ITEM = b"\xfe\xff\x00\xe0\0\0\0\0"
END_OF_SEQUENCE = b"\xfe\xff\xdd\xe0\0\0\0\0"
MANY = 300_000
SEQUENCE = struct.pack("<HH2sHI", 9, 0x1010, b"SQ", 0, 0xFFFFFFFF)


def element(group: int, number: int, representation: bytes, body: bytes = b"") -> bytes:
    return struct.pack("<HH2sH", group, number, representation, len(body)) + body


def with_parts(parts: bytes, *, before: bytes = b"\x08\x00\x60\x00CS") -> bytes:
    """Return a radiograph with more elements ahead of one of its own."""
    data = make_dicom()
    at = data.index(before)
    return data[:at] + parts + data[at:]


def with_fragments(n: int) -> bytes:
    """Return a radiograph whose JPEG is followed by empty fragments."""
    data = make_dicom(INNER, syntax="1.2.840.10008.1.2.4.50", PixelData=encapsulate([by_pillow(INNER)]))
    at = data.rindex(END_OF_SEQUENCE)
    return data[:at] + ITEM * n + data[at:]


PIXELS = b"\xe0\x7f\x10\x00"
ONES = b"1\\" * limits.MAX_VALUE_BYTES
BOMBS = {
    "elements": with_parts(element(8, 0x50, b"SH") * MANY),
    "items of a private sequence": with_parts(SEQUENCE + ITEM * MANY + END_OF_SEQUENCE),
    "elements in an item": with_parts(
        SEQUENCE + ITEM[:4] + struct.pack("<I", 8 * MANY) + element(9, 0x1011, b"SH") * MANY + END_OF_SEQUENCE
    ),
    "items of a sequence that is wanted": with_parts(
        struct.pack("<HH2sHI", 0x28, 0x3010, b"SQ", 0, 8 * MANY) + ITEM * MANY, before=PIXELS
    ),
    "numbers in one value": with_parts(struct.pack("<HH2sHI", 0x28, 0x1050, b"UN", 0, len(ONES)) + ONES, before=PIXELS),
    "character sets": with_parts(struct.pack("<HH2sHI", 8, 5, b"UT", 0, len(ONES)) + ONES),
    "fragments": with_fragments(MANY),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_file_of_very_many_parts_is_refused_soon(kind: str) -> None:
    refused = read(BOMBS[kind], 64).refused
    assert refused is not None
    assert refused.reason == "too_complex"


def test_sequences_in_sequences_without_an_end_are_damage() -> None:
    refused = read(with_parts((SEQUENCE + ITEM[:4] + b"\xff\xff\xff\xff") * 50_000), 64).refused
    assert refused is not None
    assert refused.reason == "damaged"


def test_a_radiograph_of_many_parts_is_read() -> None:
    private = SEQUENCE + ITEM * 10_000 + END_OF_SEQUENCE
    many = b"".join(element(9, number, b"SH", b"x ") for number in range(0x1011, 0x6000))
    plain = read(make_dicom(), 64)
    for data in (with_parts(private + many), with_fragments(1000)):
        assert read(data, 64).refused is None
    found = read(with_parts(private + many), 64)
    assert found.square is not None
    assert plain.square is not None
    np.testing.assert_array_equal(found.square, plain.square)
