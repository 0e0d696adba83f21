import base64
import dataclasses
import io
import shutil
from pathlib import Path

import pytest
from PIL import Image

from cxr.evaluation.out_of_fold import OutOfFold
from cxr.evaluation.subgroups import most_confident_errors
from cxr.report.gallery import GALLERY_PX, gallery
from cxr.storage import files
from cxr.training.run import Run
from tests.support.runs import Finished


@pytest.fixture(scope="module")
def run(finished: Finished) -> Run:
    return finished()


def test_each_error_has_its_image_and_the_map_of_the_same_size(run: Run) -> None:
    images = OutOfFold(files.read_table(run.folder.predictions), run.classes)
    errors = most_confident_errors(images, n_worst=1)
    rows = gallery(run, errors)
    assert [row["path"] for row in rows] == errors["path"].tolist()
    assert [row["probability"] for row in rows] == errors["probability"].tolist(), "other columns are kept"
    for row in rows:
        grey, overlaid = (opened(uri) for uri in row["pictures"])
        assert grey.size == overlaid.size
        assert max(grey.size) <= GALLERY_PX
        assert (grey.mode, overlaid.mode) == ("L", "RGB")


def opened(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def test_errors_whose_images_are_gone_are_listed_without_pictures(
    run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images = OutOfFold(files.read_table(run.folder.predictions), run.classes)
    errors = most_confident_errors(images, n_worst=1)
    emptied = shutil.copytree(run.config.data, tmp_path / "emptied")
    for path in errors["path"]:
        (emptied / path).unlink()
    gone = dataclasses.replace(run, config=dataclasses.replace(run.config, data=str(emptied)))
    rows = gallery(gone, errors)
    assert [row["pictures"] for row in rows] == [()] * len(errors)
    assert "the errors of fold" in caplog.text
