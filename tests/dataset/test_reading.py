import re
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import pytest

from cxr.dataset.listing.layout import list_images
from cxr.dataset.reading import read_images
from cxr.errors import DataError
from cxr.images.source import Source, open_source


def test_an_image_prepared_before_is_not_decoded_again(sample: Path, tmp_path: Path) -> None:
    source = open_source(str(sample))
    images = list_images(source).images[:20]
    first, vitals = read_images(source, images, tmp_path, 32)
    shards = sorted(tmp_path.rglob("*.npy"))
    again, same = read_images(source, images, tmp_path, 32)
    assert again == first
    pd.testing.assert_frame_equal(same, vitals)
    assert sorted(tmp_path.rglob("*.npy")) == shards


def test_an_image_has_its_hash_and_header_or_the_reason_and_vital_signs_if_it_can_be_read(
    sample: Path, tmp_path: Path
) -> None:
    source = open_source(str(sample))
    images = list_images(source).images
    entries, vitals = read_images(source, images, tmp_path, None)
    (unreadable,) = [entry for entry in entries if entry.header is None]
    assert str(unreadable.reason).startswith("truncated")
    readable = [entry for entry in entries if entry.header]
    assert {entry.image_id for entry in readable} == set(vitals.index)
    assert all(entry.square is None and entry.thumbnail is None for entry in entries), "they are in the cache"


class ShortOfMemory:
    """A folder on a machine that cannot hold one of its files."""

    def __init__(self, source: Source, path: str) -> None:
        self.source = source
        self.path = path

    def sizes(self) -> Mapping[str, int]:
        return self.source.sizes()

    def empty_folders(self) -> list[str]:
        return self.source.empty_folders()

    def read(self, path: str) -> bytes:
        if path == self.path:
            raise MemoryError
        return self.source.read(path)

    def head(self, path: str, n_bytes: int) -> bytes:
        return self.source.head(path, n_bytes)


def test_a_shortage_of_memory_stops_the_reading_and_leaves_no_image_out(sample: Path, tmp_path: Path) -> None:
    source = open_source(str(sample))
    images = list_images(source).images
    short = ShortOfMemory(source, images[3].key)
    with pytest.raises(DataError, match=re.escape(images[3].path) + ".*run the same command again"):
        read_images(short, images, tmp_path, None)
