import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cxr.images.inbox import LOOSE
from cxr.serving.scoring.pictures import find_picture


def row_of(file: Path) -> dict[str, Any]:
    """A file's row of a scoring run's record."""
    facts = file.stat()
    image_id = hashlib.sha256(file.read_bytes()).hexdigest()
    return {"path": file.name, "image_id": image_id, "n_bytes": facts.st_size, "changed_ns": facts.st_mtime_ns}


@pytest.mark.parametrize("batch", [LOOSE, "ward-3"])
def test_a_file_of_a_batch_is_decoded_again(batch: str, image: Callable[..., bytes], tmp_path: Path) -> None:
    file = tmp_path / batch / "a.jpeg"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(image())
    picture = find_picture(tmp_path, batch, row_of(file), 32)
    assert picture is not None
    assert picture.grey.size == (64, 48)


def test_a_file_that_is_gone_damaged_or_another_one_now_has_no_picture(
    image: Callable[..., bytes], tmp_path: Path
) -> None:
    file = tmp_path / "a.jpeg"
    file.write_bytes(image())
    row = row_of(file)
    file.write_bytes(image(seed=1))
    os.utime(file, ns=(row["changed_ns"], row["changed_ns"]))
    assert find_picture(tmp_path, LOOSE, row | {"n_bytes": file.stat().st_size}, 32) is None, "other content"
    file.write_bytes(b"no image")
    assert find_picture(tmp_path, LOOSE, row_of(file), 32) is None
    file.unlink()
    assert find_picture(tmp_path, LOOSE, row, 32) is None
