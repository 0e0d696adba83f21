import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cxr.config import DataConfig
from cxr.dataset.listing.layout import list_images
from cxr.dataset.pictures import find_pictures, read_pictures, read_squares, thumbnails_of
from cxr.errors import DataError
from cxr.images.decoding import DECODED_PX, decode_square
from cxr.images.source import open_source


@pytest.fixture
def data(tree: Callable[[dict[str, bytes]], Path], image: Callable[..., bytes]) -> Path:
    return tree({f"train/A/{seed}.png": image(seed, (400, 300), "PNG") for seed in range(3)})


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_an_image_is_found_by_its_path_and_decoded_again(data: Path) -> None:
    config = DataConfig(data=str(data))
    file = data / "train" / "A" / "1.png"
    square = read_squares(config, 64)("train/A/1.png", digest(file))
    np.testing.assert_array_equal(square, decode_square(file.read_bytes(), 64))
    assert read_pictures(config, 64)("train/A/1.png", digest(file)).grey.size == (400, 300)


def test_a_source_that_is_open_gives_the_same_squares(data: Path) -> None:
    config = DataConfig(data=str(data))
    source = open_source(config.data)
    known = thumbnails_of(source, list_images(source), config)
    opened = read_squares(config, DECODED_PX)
    for file in sorted(data.rglob("*.png")):
        path = file.relative_to(data).as_posix()
        np.testing.assert_array_equal(known(path, digest(file)), opened(path, digest(file)))


@pytest.mark.parametrize("change", ["deleted", "replaced", "unknown"])
def test_an_image_that_is_missing_or_was_changed_is_an_error(data: Path, change: str) -> None:
    file = data / "train" / "A" / "1.png"
    image_id, path = digest(file), "train/A/1.png"
    read = read_pictures(DataConfig(data=str(data)), 64)
    if change == "deleted":
        file.unlink()
    elif change == "replaced":
        file.write_bytes((data / "train" / "A" / "2.png").read_bytes())
    else:
        path = "train/A/9.png"
    with pytest.raises(DataError, match=f"image '{path}' in .* is missing or was changed since the run was begun"):
        read(path, image_id)


def test_pictures_that_are_gone_are_left_out_and_the_others_are_found(
    data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = data / "train" / "A"
    images = [(f"train/A/{seed}.png", digest(folder / f"{seed}.png")) for seed in range(3)]
    (folder / "1.png").unlink()
    first, second, third = find_pictures(DataConfig(data=str(data)), images, 64)
    assert first is not None
    assert third is not None
    assert first.grey.size == third.grey.size == (400, 300)
    assert second is None
    assert "image 'train/A/1.png'" in caplog.text


def test_a_data_set_that_is_gone_has_no_picture(data: Path) -> None:
    config = DataConfig(data=str(data))
    shutil.rmtree(data)
    assert find_pictures(config, [("train/A/1.png", "0" * 64)] * 2, 64) == [None, None]
