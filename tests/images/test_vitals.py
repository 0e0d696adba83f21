import io

import numpy as np
import pytest
from PIL import Image

from cxr.images.decoding import decode_image
from cxr.images.vitals import measure


def vitals_of(pixels: np.ndarray, format: str = "PNG"):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format)
    return measure(decode_image(stream.getvalue(), 0))[0]


def test_a_hand_made_image_has_the_vital_signs_a_hand_computes() -> None:
    image = np.full((256, 256), 100, np.uint8)
    image[13:-13, 13:-13] = 200
    inner = 230 * 230 / 256**2
    vitals = vitals_of(image)
    assert vitals.border == 100
    assert vitals.mean == pytest.approx(100 + 100 * inner)
    assert vitals.contrast == pytest.approx(100 * np.sqrt(inner * (1 - inner)))
    assert (vitals.dark_share, vitals.bright_share, vitals.chroma) == (0, 0, 0)


@pytest.mark.parametrize(("level", "dark", "bright"), [(0, 1, 0), (5, 1, 0), (6, 0, 0), (249, 0, 0), (250, 0, 1)])
def test_black_and_white_are_counted_to_the_level(level: int, dark: float, bright: float) -> None:
    vitals = vitals_of(np.full((300, 280), level, np.uint8))
    assert (vitals.contrast, vitals.dark_share, vitals.bright_share) == (0, dark, bright)


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_a_grey_image_saved_in_colour_has_no_chroma_and_a_photograph_has(format: str) -> None:
    grey = np.random.default_rng(0).integers(0, 255, (128, 128), dtype=np.uint8)
    assert vitals_of(np.stack([grey] * 3, axis=-1), format).chroma < 1
    assert vitals_of(np.stack([grey, grey // 2, grey // 4], axis=-1), format).chroma > 8


def test_a_thumbnail_shows_the_image() -> None:
    image = np.zeros((512, 512), np.uint8)
    image[:256] = 255
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    thumbnail = measure(decode_image(stream.getvalue(), 0))[1]
    assert thumbnail.shape == (64, 64)
    assert (thumbnail[:31].min(), thumbnail[33:].max()) == (255, 0)
