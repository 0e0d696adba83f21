from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxr.errors import DiskFullError
from cxr.storage.image_arrays import ImageArrays


def open_arrays(folder: Path) -> ImageArrays:
    return ImageArrays(folder, (32, 32), np.uint8)


def test_prepared_images_come_back_by_content_in_any_order(tmp_path: Path) -> None:
    squares = {name: np.full((32, 32), value, np.uint8) for value, name in enumerate("abc")}
    open_arrays(tmp_path).add({name: squares[name] for name in "ab"})
    open_arrays(tmp_path).add({"c": squares["c"]})
    prepared = open_arrays(tmp_path)
    assert "c" in prepared
    assert "d" not in prepared
    np.testing.assert_array_equal(prepared.load(["c", "a", "c"])[:, 0, 0], [2, 0, 2])
    with pytest.raises(KeyError):
        prepared.load(["d"])


def test_arrays_of_another_shape_or_type_are_ignored(tmp_path: Path) -> None:
    open_arrays(tmp_path).add({"a": np.zeros((32, 32), np.uint8)})
    assert "a" not in ImageArrays(tmp_path, (64, 64), np.uint8)
    assert "a" not in ImageArrays(tmp_path, (32, 32), np.float32)


def test_facts_about_an_image_come_back_with_it(tmp_path: Path) -> None:
    square = np.zeros((32, 32), np.uint8)
    open_arrays(tmp_path).add({"a": square, "b": square}, pd.DataFrame({"mean": [1.0, 2.0]}))
    open_arrays(tmp_path).add({"c": square}, pd.DataFrame({"mean": [3.0]}))
    assert open_arrays(tmp_path).facts()["mean"].to_dict() == {"a": 1, "b": 2, "c": 3}


def test_a_damaged_shard_is_reported_and_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    open_arrays(tmp_path).add({"a": np.zeros((32, 32), np.uint8)})
    (shard,) = tmp_path.rglob("*.npy")
    shard.write_bytes(shard.read_bytes()[:-10])
    assert "a" not in open_arrays(tmp_path)
    assert "damaged" in caplog.text


def test_one_changed_byte_of_an_array_is_noticed_and_the_array_is_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    squares = {name: np.full((32, 32), value, np.uint8) for value, name in enumerate("ab")}
    open_arrays(tmp_path).add(squares)
    (shard,) = tmp_path.rglob("*.npy")
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    arrays = open_arrays(tmp_path)
    assert ("a" in arrays, "b" in arrays) == (True, False)
    assert "image b… has changed" in caplog.text
    with pytest.raises(KeyError):
        arrays.load(["a", "b"])
    arrays.add({"b": squares["b"]})
    for opened in (arrays, open_arrays(tmp_path)):
        np.testing.assert_array_equal(opened.load(["b"]), [squares["b"]])


def test_a_changed_table_of_a_shard_is_noticed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    squares = {"a": np.zeros((32, 32), np.uint8)}
    open_arrays(tmp_path).add(squares, pd.DataFrame({"mean": [1.0]}))
    (table,) = tmp_path.rglob("*.parquet")
    data = bytearray(table.read_bytes())
    data[data.index(np.float64(1.0).tobytes())] ^= 1
    table.write_bytes(data)
    assert "a" not in open_arrays(tmp_path)
    assert "is deleted, and its images are computed again" in caplog.text
    assert not table.exists()


def test_a_shard_without_its_table_is_ignored(tmp_path: Path) -> None:
    open_arrays(tmp_path).add({"a": np.zeros((32, 32), np.uint8)})
    (ids,) = tmp_path.rglob("*.parquet")
    ids.unlink()
    assert "a" not in open_arrays(tmp_path)


def test_a_full_disk_is_reported_and_leaves_the_cache_as_it_was(small_disk: Path) -> None:
    arrays = open_arrays(small_disk)
    arrays.add({"a": np.zeros((32, 32), np.uint8)})
    before = sorted(small_disk.iterdir())
    with pytest.raises(DiskFullError, match="no space is left to write"):
        arrays.add({str(k): np.full((32, 32), k, np.uint8) for k in range(250)})
    assert sorted(small_disk.iterdir()) == before
    assert "a" in open_arrays(small_disk)
