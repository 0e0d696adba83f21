import base64
import dataclasses
import io
import shutil
from pathlib import Path

import pytest
from PIL import Image

from cxr.evaluation.out_of_fold import OutOfFold
from cxr.evaluation.subgroups import label_suspects, most_confident_errors
from cxr.report.run.gallery import GALLERY_PX, N_SUSPECTS, gallery, suspects
from cxr.storage import files
from cxr.training.run import Run
from tests.support.runs import Finished


@pytest.fixture(scope="module")
def run(finished: Finished) -> Run:
    return finished()


def test_each_error_has_its_image_and_the_map_of_the_same_size(run: Run) -> None:
    images = OutOfFold(files.read_table(run.folder.predictions), run.classes)
    errors = most_confident_errors(images, n_worst=1)
    rows = gallery(run, errors, {name: k for k, name in enumerate(run.classes)})
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
    rows = gallery(gone, errors, {name: k for k, name in enumerate(run.classes)})
    assert [row["pictures"] for row in rows] == [()] * len(errors)
    assert "the errors of fold" in caplog.text


def test_the_first_suspects_have_their_image_alone_and_none_where_it_is_gone(run: Run, tmp_path: Path) -> None:
    ranked = label_suspects(OutOfFold(files.read_table(run.folder.predictions), run.classes))
    assert ranked["is_suspect"].any(), "a network of one epoch doubts some labels"
    shown = suspects(run, ranked)
    assert [row["path"] for row in shown] == ranked.loc[ranked["is_suspect"], "path"].head(N_SUSPECTS).tolist()
    assert all(opened(row["picture"]).mode == "L" for row in shown)
    emptied = shutil.copytree(run.config.data, tmp_path / "emptied")
    (emptied / shown[0]["path"]).unlink()
    gone = dataclasses.replace(run, config=dataclasses.replace(run.config, data=str(emptied)))
    assert [row["picture"] is None for row in suspects(gone, ranked)] == [True] + [False] * (len(shown) - 1)
