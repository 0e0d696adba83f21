import hashlib
import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from cxr.images.decoding import Header, decode_square
from cxr.images.dicom import file as dicom_file
from cxr.images.reading import read
from tests.support.images import make_dicom

MakeImage = Callable[..., bytes]


def test_an_image_is_read_to_its_hash_header_picture_and_square(image: MakeImage) -> None:
    data = image(size=(300, 200))
    reading = read(data, 64)
    assert reading.image_id == hashlib.sha256(data).hexdigest()
    assert reading.header == Header(300, 200, "L", 8)
    assert reading.picture is not None
    assert reading.picture.grey.size == (300, 200)
    assert reading.square is not None
    np.testing.assert_array_equal(reading.square, decode_square(data, 64))
    assert reading.refused is None


def test_without_a_size_there_is_a_picture_and_no_square(image: MakeImage) -> None:
    reading = read(image(), None)
    assert reading.picture is not None
    assert reading.square is None


def test_pixels_that_are_not_needed_are_not_decoded(image: MakeImage) -> None:
    data = image(size=(300, 200))
    asked: list[str] = []

    def is_new(image_id: str) -> bool:
        asked.append(image_id)
        return False

    cut = data[: len(data) // 2]
    assert read(cut, 64).refused is not None, "half of an image cannot be decoded"
    reading = read(cut, 64, needs_pixels=is_new)
    assert (reading.header, reading.picture, reading.square, reading.refused) == (
        Header(300, 200, "L", 8),
        None,
        None,
        None,
    )
    assert asked == [hashlib.sha256(cut).hexdigest()]


def test_bytes_whose_header_is_refused_are_not_asked_about() -> None:
    def is_new(image_id: str) -> bool:
        pytest.fail(f"asked about {image_id}")

    reading = read(b"Dear colleague", 64, needs_pixels=is_new)
    assert reading.refused is not None
    assert (reading.refused.reason, reading.header, reading.square) == ("not_an_image", None, None)


def test_a_truncated_image_keeps_its_header_beside_the_reason(image: MakeImage) -> None:
    reading = read(image(size=(300, 200))[:-900], 64)
    assert reading.header == Header(300, 200, "L", 8)
    assert reading.refused is not None
    assert (reading.refused.reason, reading.picture, reading.square) == ("truncated", None, None)


def test_a_dicom_file_is_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    parse, calls = dicom_file._read, []

    def counted(*words):
        calls.append(words)
        return parse(*words)

    monkeypatch.setattr(dicom_file, "_read", counted)
    reading = read(make_dicom(), 64)
    assert reading.header == Header(80, 96, "MONOCHROME2", 12)
    assert reading.square is not None
    assert len(calls) == 1


def test_a_jpeg_or_png_file_is_parsed_once(image: MakeImage, monkeypatch: pytest.MonkeyPatch) -> None:
    parse, calls = Image.open, []

    def counted(file: io.BytesIO, *words, **options):
        calls.append(file)
        return parse(file, *words, **options)

    monkeypatch.setattr(Image, "open", counted)
    assert read(image(), 64).square is not None
    assert read(image(format="PNG"), 64).square is not None
    assert len(calls) == 2
