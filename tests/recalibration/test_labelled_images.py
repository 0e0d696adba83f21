"""Which labelled images count, of files that a model predicts."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxr.classes import Classes
from cxr.errors import DataError
from cxr.images.source import open_source
from cxr.recalibration.labelled_images import LabelledImages, predict_labelled
from cxr.recalibration.labels import Labels
from cxr.serving.package import Package
from cxr.serving.registry import load_champion
from tests.support.shared import NewFolder

Predict = Callable[..., LabelledImages]


@pytest.fixture(scope="module")
def package(home: Path) -> Package:
    return load_champion(home / "models", "tiny")


@pytest.fixture(scope="module")
def site(elsewhere: Path, new_folder: NewFolder) -> Path:
    """Drawn images of another site."""
    return Path(shutil.copytree(elsewhere, new_folder("site"), dirs_exist_ok=True))


@pytest.fixture
def predict(package: Package, site: Path, tmp_path: Path) -> Predict:
    """Predict files, whose class is their folder: predict(paths, patients=[…])."""

    def predict_images(paths: list[Path], patients: list[str] | None = None) -> LabelledImages:
        rows = pd.DataFrame(
            {
                "path": [path.relative_to(site).as_posix() for path in paths],
                "label": [path.parent.name for path in paths],
                "patient_id": patients or [""] * len(paths),
            }
        )
        labels = Labels(rows, open_source(str(site)), "0" * 64, "0" * 64)
        return predict_labelled(package, labels, device="cpu", cache=tmp_path)

    return predict_images


@pytest.fixture
def images(site: Path) -> list[Path]:
    """Six images of each class, each with other bytes."""
    by_bytes = {path.read_bytes(): path for path in sorted(site.rglob("*.jpeg")) if path.stat().st_size > 2000}
    return [
        path
        for name in ("NORMAL", "PNEUMONIA")
        for path in [path for path in by_bytes.values() if path.parent.name == name][:6]
    ]


def test_images_keep_their_order_labels_and_a_prediction_of_each_fold(predict: Predict, images: list[Path]) -> None:
    found = predict(images)
    assert found.table["label"].tolist() == [path.parent.name for path in images]
    assert found.squares.shape == (12, 64, 64)
    assert found.log_probability.shape == (2, 12, 2)
    np.testing.assert_allclose(np.exp(found.log_probability).sum(axis=2), 1)
    assert found.left_out == {"unreadable": 0, "copy": 0, "in_training": 0}
    assert found.n_by_class(Classes(["NORMAL", "PNEUMONIA"])) == {"NORMAL": 6, "PNEUMONIA": 6}
    assert found.n_patients is None
    assert found.table["group"].nunique() == 12


def test_what_says_nothing_new_is_left_out_with_its_reason(
    predict: Predict, images: list[Path], site: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = images[0].parent
    letter, twin = folder / "letter.jpeg", folder / "twin.jpeg"
    letter.write_bytes(b"Dear colleague")
    twin.write_bytes(images[0].read_bytes())
    gone = folder / "gone.jpeg"
    found = predict([*images, letter, twin, gone])
    for path in (letter, twin):
        path.unlink()
    assert found.left_out == {"unreadable": 2, "copy": 1, "in_training": 0}
    assert len(found.table) == len(found.squares) == found.log_probability.shape[1] == 12
    messages = [record.getMessage() for record in caplog.records]
    assert messages[0].startswith(f"left out: {letter.relative_to(site).as_posix()}: ")
    assert messages[2] == f"left out: {twin.relative_to(site).as_posix()} has the same content as an image before it"


def test_patients_are_counted_where_they_are_known(predict: Predict, images: list[Path]) -> None:
    found = predict(images, [*"aabcde", *"fghij", ""])
    assert found.n_patients == 10
    assert found.table["group"].nunique() == 11
    with pytest.raises(DataError, match="each class needs 5 patients or more, and the 12 rows leave 2 of NORMAL, 6 of"):
        predict(images, [*"aaabbb", *"cdefgh"])


def test_too_few_images_of_a_class_are_refused_with_what_was_lost(predict: Predict, images: list[Path]) -> None:
    sentence = r"5 images or more, and the 12 rows leave 6 of NORMAL, 4 of PNEUMONIA \(left out: 2 copy\): label more"
    with pytest.raises(DataError, match=sentence):
        predict([*images[:10], *images[8:10]])


def test_a_file_with_two_labels_is_refused(predict: Predict, images: list[Path]) -> None:
    other = images[-1].parent / "again.jpeg"
    other.write_bytes(images[0].read_bytes())
    try:
        with pytest.raises(
            DataError, match=r"is NORMAL and '.*again.jpeg' is PNEUMONIA, but the two files are the same"
        ):
            predict([*images, other])
    finally:
        other.unlink()
