import hashlib
import shutil
from pathlib import Path

import pytest

from cxr.classes import Classes
from cxr.errors import ConfigError, CxrError, DataError
from cxr.labelling import Labelling
from cxr.recalibration.labels import read_labels
from tests.support.labels import from_table

CLASSES = Classes(["NORMAL", "PNEUMONIA"])


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder `site` with the files a.png, b.png and `with, comma.png`."""
    (tmp_path / "site").mkdir()
    for name in ("a.png", "b.png", "with, comma.png"):
        (tmp_path / "site" / name).write_bytes(b"")
    return tmp_path / "site"


def write(place: Path, text: str) -> Path:
    (place / "labels.csv").write_text(text)
    return place / "labels.csv"


def test_paths_labels_and_patients_are_read_and_other_columns_are_not(place: Path, tmp_path: Path) -> None:
    text = 'note,label,path,patient_id\r\nx,NORMAL, a.png ,7\r\ny,NORMAL,b.png,7\r\n,PNEUMONIA,"with, comma.png",\r\n'
    file = write(place, text)
    found = read_labels(from_table(file), None, CLASSES, tmp_path)
    assert found.rows[["path", "label"]].to_numpy().tolist() == [
        ["a.png", "NORMAL"],
        ["b.png", "NORMAL"],
        ["with, comma.png", "PNEUMONIA"],
    ]
    first, second, third = found.rows["patient_id"]
    assert (first, third) == (second, "")
    assert first.startswith("table-")
    assert found.sha256 == found.identity == hashlib.sha256(file.read_bytes()).hexdigest()


def test_images_may_lie_in_another_folder_or_in_an_archive(place: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    file = write(tmp_path / "elsewhere", f"path,label\na.png,NORMAL\n{place / 'b.png'},PNEUMONIA\n")
    archive = Path(shutil.make_archive(str(tmp_path / "site"), "zip", place))
    for images in (place, archive):
        found = read_labels(from_table(file), images, CLASSES, tmp_path)
        assert found.rows["path"].tolist() == ["a.png", "b.png"]
        assert found.source.read("a.png") == b""
    with pytest.raises(CxrError, match=r"no column of labels.csv names files"):
        read_labels(from_table(file), None, CLASSES, tmp_path)


def test_a_label_that_the_model_has_not_is_refused(place: Path, tmp_path: Path) -> None:
    file = write(place, "path,label\na.png,NORMAL\nb.png,normal\n")
    with pytest.raises(
        DataError, match=r"'b.png' has the label 'normal', .* classes 'NORMAL', 'PNEUMONIA'; .* --value"
    ):
        read_labels(from_table(file), None, CLASSES, tmp_path)
    found = read_labels(from_table(file, value=("label:normal=NORMAL",)), None, CLASSES, tmp_path)
    assert found.rows["label"].tolist() == ["NORMAL", "NORMAL"]


def test_what_the_options_make_of_a_table_is_part_of_a_versions_identity(place: Path, tmp_path: Path) -> None:
    file = write(place, 'path,PNEUMONIA\na.png,1\nb.png,-1\n"with, comma.png",0\n')
    classes = Classes(["not PNEUMONIA", "PNEUMONIA"])
    options = {"label_columns": ("PNEUMONIA",)}
    one, other = (
        read_labels(from_table(file, uncertain=meaning, **options), None, classes, tmp_path)
        for meaning in ("positive", "negative")
    )
    assert one.rows["label"].tolist() == ["PNEUMONIA", "PNEUMONIA", "not PNEUMONIA"]
    assert other.rows["label"].tolist() == ["PNEUMONIA", "not PNEUMONIA", "not PNEUMONIA"]
    assert one.sha256 == other.sha256
    assert one.identity != other.identity


def test_a_recalibration_without_labels_or_images_is_refused(place: Path, tmp_path: Path) -> None:
    file = write(place, "path,label\na.png,NORMAL\n")
    refused: list[tuple[Labelling, Path | None, str]] = [
        (Labelling(), None, "give --labels FILE"),
        (from_table(place / "nowhere.csv"), None, "--labels '.*nowhere.csv' is no file"),
        (from_table(file), place / "nowhere", r"--images '.*nowhere' is no folder"),
        (from_table(file), place / "a.png", r"--images '.*a.png' is neither a folder nor an archive"),
        (from_table(file), Path("s3://bucket/x"), "--images needs a folder of files, got 's3://bucket/x'"),
    ]
    for labelling, images, sentence in refused:
        with pytest.raises(ConfigError, match=sentence):
            read_labels(labelling, images, CLASSES, tmp_path)
