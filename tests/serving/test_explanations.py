from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cxr.cli.app import app
from cxr.errors import ConfigError, DataError
from cxr.export.build import make_package
from cxr.serving.explanations import explain_images
from cxr.serving.package import Package
from cxr.serving.registry import load_champion, promote
from cxr.storage import files
from cxr.storage.model_folder import ModelFolder
from cxr.storage.run_folder import ExplanationFolder
from tests.support.runs import Finished
from tests.support.shared import NewFolder


@pytest.fixture(scope="module")
def models(finished: Finished, new_folder: NewFolder) -> Path:
    place = new_folder("explained") / "models"
    model = ModelFolder.named(place, "tiny")
    promote(model, make_package(finished(), model).version)
    return place


@pytest.fixture
def package(models: Path) -> Package:
    return load_champion(models, "tiny")


@pytest.fixture(scope="module")
def images(sample: Path) -> list[Path]:
    return sorted(sample.rglob("*.jpeg"))[:3]


def test_each_image_has_its_probability_and_a_picture_at_its_own_aspect(
    package: Package, images: list[Path], tmp_path: Path
) -> None:
    before = [path.read_bytes() for path in images]
    folder = ExplanationFolder(tmp_path / "out")
    table = explain_images(package, images, folder, cache=tmp_path)
    pd.testing.assert_frame_equal(files.read_table(folder.table), table, check_dtype=False)
    assert (table["status"] == "ok").all()
    np.testing.assert_allclose(table[[f"probability_{name}" for name in package.classes]].sum(axis=1), 1)
    predicted = np.where(table["probability_PNEUMONIA"] >= package.threshold, "PNEUMONIA", "NORMAL")
    assert table["predicted_label"].tolist() == table["target"].tolist() == predicted.tolist()
    assert (table["map"] == "HiResCAM (layer3, 2 × 2 cells)").all()
    for path, name in zip(images, table["picture"], strict=True):
        with Image.open(folder.path / name) as picture, Image.open(path) as image:
            assert picture.width / picture.height == pytest.approx(2 * image.width / image.height, rel=0.02)
            left, _ = np.split(np.asarray(picture).astype(int), 2, axis=1)
        assert (left[..., 0] == left[..., 2]).all(), "the image is grey"
    assert [path.read_bytes() for path in images] == before


def test_a_map_is_laid_over_each_image_for_a_class_that_something_speaks_for(
    package: Package, images: list[Path], tmp_path: Path
) -> None:
    is_shown = dict.fromkeys(images, False)
    for target in package.classes:
        folder = ExplanationFolder(tmp_path / target)
        pictures = explain_images(package, images, folder, cache=tmp_path, target=target)["picture"]
        for path, name in zip(images, pictures, strict=True):
            with Image.open(folder.path / name) as picture:
                left, right = np.split(np.asarray(picture).astype(int), 2, axis=1)
            is_shown[path] |= bool((left != right).any())
    assert all(is_shown.values())


def test_an_image_gets_the_same_probability_alone_and_among_others(
    package: Package, images: list[Path], tmp_path: Path
) -> None:
    together = explain_images(package, images, ExplanationFolder(tmp_path / "a"), cache=tmp_path)
    alone = explain_images(package, images[1:2], ExplanationFolder(tmp_path / "b"), cache=tmp_path)
    assert alone["probability_PNEUMONIA"][0] == pytest.approx(together["probability_PNEUMONIA"][1], abs=1e-6)


def test_the_command_goes_on_after_a_bad_file_and_says_so(
    models: Path, images: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "letter.jpeg"
    text.write_text("Dear doctor")
    where = ["--name", "tiny", "--models", str(models), "--out", str(tmp_path / "out"), "--class", "NORMAL"]
    where += ["--cache", str(tmp_path / "cache")]
    with pytest.raises(SystemExit) as ended:
        app(["explain", str(text), str(tmp_path / "absent.png"), str(images[0]), *where])
    assert ended.value.code == 2
    printed = capsys.readouterr().out
    assert "letter.jpeg': not predicted, not an image" in printed
    assert "absent.png': not predicted" in printed
    assert "where the model looked for NORMAL" in printed
    assert "HiResCAM (layer3, 2 × 2 cells)" in printed
    table = pd.read_parquet(tmp_path / "out" / "explanations.parquet")
    assert table["status"].tolist() == ["quarantined", "quarantined", "ok"]


def test_two_images_of_the_same_name_have_two_pictures(package: Package, images: list[Path], tmp_path: Path) -> None:
    table = explain_images(package, [images[0], images[0]], ExplanationFolder(tmp_path), cache=tmp_path / "cache")
    assert table["picture"].nunique() == 2
    assert len(list(tmp_path.glob("*.png"))) == 2


def test_a_mistake_is_reported_in_one_sentence_and_nothing_is_written(
    package: Package, images: list[Path], tmp_path: Path
) -> None:
    folder = ExplanationFolder(tmp_path / "out")
    with pytest.raises(ConfigError, match="--class must be one of NORMAL, PNEUMONIA, got 'COVID'"):
        explain_images(package, images, folder, target="COVID")
    with pytest.raises(ConfigError, match="--opacity"):
        explain_images(package, images, folder, opacity=2)
    (tmp_path / "empty.png").touch()
    with pytest.raises(DataError, match="none of the 1 files is an image"):
        explain_images(package, [tmp_path / "empty.png"], folder)
    with pytest.raises(ConfigError, match="name one or more images"):
        app(["explain", "--name", "tiny"])
    assert not folder.path.exists()
