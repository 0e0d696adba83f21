import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxr.images.inbox import Arrival
from cxr.images.reading import read
from cxr.images.vitals import fingerprint
from cxr.serving.screening import FileReading, examine_image, read_image

UPLOAD = Arrival("upload", "", 0, 0)


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def reason(reading: FileReading) -> str | None:
    return reading.refused.reason if reading.refused else None


def test_a_radiograph_is_measured_on_the_square_that_the_reader_gives(image: Callable[..., bytes]) -> None:
    data = image(size=(300, 200))
    screened, reading = examine_image(UPLOAD, data, 64), read(data, 64)
    assert (screened.image_id, screened.width, screened.height) == (reading.image_id, 300, 200)
    assert screened.square is not None
    assert reading.square is not None
    np.testing.assert_array_equal(screened.square, reading.square)
    assert screened.fingerprint == fingerprint(reading.square)
    assert screened.measures["mean"] == pytest.approx(reading.square.mean())
    assert screened.measures["contrast"] == pytest.approx(reading.square.std())
    assert screened.measures["chroma"] == 0


@pytest.mark.parametrize(("spread", "expected"), [(0, "blank"), (7, "blank"), (10, None)])
def test_an_image_whose_grey_levels_hardly_spread_is_blank(spread: int, expected: str | None) -> None:
    stripes = np.full((256, 256), 100)
    stripes[:, :128] += spread  # half of the pixels: the standard deviation is half the spread
    assert reason(examine_image(UPLOAD, png(stripes), 256)) == expected


@pytest.mark.parametrize(("tint", "expected"), [(0, None), (10, None), (60, "colour_photograph")])
def test_an_image_far_from_grey_is_a_photograph(tint: int, expected: str | None) -> None:
    grey = np.tile(np.linspace(0, 190, 128), (128, 1))
    assert reason(examine_image(UPLOAD, png(np.stack([grey + tint, grey, grey], axis=-1)), 64)) == expected


def test_a_refused_image_has_a_hash_and_a_reason_and_nothing_to_predict_from() -> None:
    reading = examine_image(UPLOAD, png(np.full((64, 64), 9)), 32)
    assert reading.image_id is not None
    assert (reading.square, reading.levels, reading.fingerprint) == (None, None, None)
    assert reading.measures == {"width": None, "height": None, "chroma": None}


def test_a_file_is_read_as_its_bytes_are(image: Callable[..., bytes], tmp_path: Path) -> None:
    file = tmp_path / "1.png"
    file.write_bytes(image(format="PNG"))
    facts = file.stat()
    arrival = Arrival("1.png", str(file), facts.st_size, facts.st_mtime_ns)
    assert read_image(arrival, 32).image_id == examine_image(arrival, file.read_bytes(), 32).image_id
    os.truncate(file, 10)
    changed = read_image(arrival, 32)
    assert (changed.is_changing, reason(changed), changed.image_id) == (True, "changed_while_read", None)
    assert not examine_image(arrival, file.read_bytes(), 32).is_changing


@pytest.mark.parametrize(("path", "expected"), [("labels.csv", "other_file"), ("labels.jpeg", "not_an_image")])
def test_a_table_beside_the_images_is_another_file_and_one_that_is_named_as_an_image_a_damaged_one(
    path: str, expected: str
) -> None:
    reading = examine_image(Arrival(path, "", 0, 0), b"path,label\n1.jpeg,well\n", 64)
    assert reason(reading) == expected
    assert reading.image_id is not None
