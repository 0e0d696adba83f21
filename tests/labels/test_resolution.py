"""Labels from tables, from the files to one row for each image."""

import io
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxr.errors import ConfigError, CxrError, DataError, FoldError
from cxr.images.source import open_source
from cxr.labelling import Labelling
from cxr.labels.resolution import Resolved, require_patients, resolve, wanted_finding, with_classes
from tests.support.images import make_dicom

FILES = [f"images/{name}.png" for name in "abcdef"]
NAMED = [file.rpartition("/")[2] for file in FILES]


def table(**columns: list[object]) -> str:
    frame = pd.DataFrame({"file": NAMED[: len(next(iter(columns.values())))]} | columns)
    return frame.to_csv(index=False)


def resolved(
    place: Path, text: str, *, files: list[str] = FILES, positive: str | None = None, **options: object
) -> Resolved:
    for file in files:
        (place / file).parent.mkdir(parents=True, exist_ok=True)
        (place / file).touch()
    (place / "t.csv").write_text(text)
    labelling = Labelling(labels=("t.csv",), **options)
    source = open_source(str(place))
    found = resolve(labelling, source, files, lambda: bytes(32), finding=wanted_finding(labelling, positive))
    return with_classes(found, labelling, positive)


def test_each_image_gets_its_class_patient_split_weight_and_subgroups(tmp_path: Path) -> None:
    text = table(
        label=["x", "y", "x"],
        patient_id=["1", "1", "2"],
        part=["train", "validate", "test"],
        w=[1, 2, 0.5],
        sex=["M", "F", "M"],
        age=[3, 30, 90],
    )
    found = resolved(tmp_path, text, split_column="part", weight_column="w", subgroup_column=("sex", "age"))
    images = found.images
    assert images.index.tolist() == FILES[:3]
    assert images["label"].tolist() == ["x", "y", "x"]
    assert images["patient_id"].iloc[0] == images["patient_id"].iloc[1] != images["patient_id"].iloc[2]
    assert images["split"].tolist() == ["train", "val", "test"]
    assert images["weight"].tolist() == [1, 2, 0.5]
    assert images["subgroup_sex"].tolist() == ["M", "F", "M"]
    assert images["subgroup_age"].tolist() == ["0 to 17", "18 to 39", "80 and over"]
    assert found.aside == dict.fromkeys(FILES[3:], "image without a label") | {"t.csv": "table of labels"}


def test_findings_keep_what_is_unknown_and_unknown_images_are_put_aside(tmp_path: Path) -> None:
    text = table(A=[1, -1, 0, 0], B=[0, 1, 1, 0])
    found = resolved(tmp_path, text, label_columns=("A", "B"), uncertain="mask", positive="A")
    assert list(found.findings) == ["A"], "nobody asked for B"
    assert found.images["label"].tolist() == ["A", "not A", "not A"]
    assert found.aside[FILES[1]] == "image of which the label is unknown"
    every = resolve(
        Labelling(labels=("t.csv",), label_columns=("A", "B"), uncertain="mask"),
        open_source(str(tmp_path)),
        FILES,
        lambda: bytes(32),
    )
    assert every.findings["A"].isna().tolist() == [False, True, False, False]
    assert every.findings["B"].tolist() == [False, True, True, False]


def test_rows_of_one_image_are_combined_and_exclusions_come_first(tmp_path: Path) -> None:
    text = "file,reader,A\n" + "".join(f"a.png,{reader},{vote}\n" for reader, vote in enumerate((1, 1, 0)))
    text += "b.png,0,0\nc.png,9,1\nnowhere.png,9,1\n"
    options = {"label_columns": ("A",), "exclude": ("reader=9",), "positive": "A"}
    with pytest.raises(ConfigError, match=r"image 'images/a.png' has rows that disagree \(A 1, 1, 0\)"):
        resolved(tmp_path, text, **options)
    found = resolved(tmp_path, text, rows="majority", **options)
    assert found.images["label"].tolist() == ["A", "not A"]
    assert found.aside["images/c.png"] == "image that --exclude leaves out"


def test_views_are_chosen_by_a_column(tmp_path: Path) -> None:
    text = table(label=["x", "y", "x", "y"], view=["PA", "ap", "LATERAL", None])
    found = resolved(tmp_path, text, view_column="view", view_positions=("PA,AP",))
    assert found.images["view"].tolist() == ["PA", "ap"]
    assert [found.aside[file] for file in FILES[2:4]] == ["image of another view"] * 2
    with pytest.raises(ConfigError, match="--view-positions LL fits no image; there are 'PA', 'ap', 'LATERAL'"):
        resolved(tmp_path, text, view_column="view", view_positions=("LL",))
    with pytest.raises(ConfigError, match="neither a column nor DICOM's ViewPosition says it: give --view-column"):
        resolved(tmp_path, text, view_positions=("PA",))


def test_without_a_column_dicom_says_the_view_and_the_uid(tmp_path: Path) -> None:
    uids = [f"1.2.840.10008.{k}" for k in range(4)]
    for k, uid in enumerate(uids):
        view = "PA" if k % 2 == 0 else "LL"
        (tmp_path / f"{k}x.dcm").write_bytes(make_dicom(SOPInstanceUID=uid, ViewPosition=view))
    (tmp_path / "t.csv").write_text("uid,label\n" + "".join(f"{uid},x\n" for uid in uids))
    labelling = Labelling(labels=("t.csv",), path_column="uid", view_positions=("PA",))
    files = [f"{k}x.dcm" for k in range(4)]
    found = resolve(labelling, open_source(str(tmp_path)), files, lambda: bytes(32))
    assert found.images.index.tolist() == ["0x.dcm", "2x.dcm"]


def test_labels_may_be_in_paths_beside_a_table_with_patients(tmp_path: Path) -> None:
    files = [f"{label}/{label}{k}.png" for label in ("sick", "well") for k in range(3)] + ["mask/m.png"]
    text = "file,patient\n" + "".join(f"{file},{k // 2}\n" for k, file in enumerate(files))
    found = resolved(tmp_path, text, files=files, label_pattern="^(sick|well)/", patient_column="patient")
    assert found.images["label"].tolist() == ["sick"] * 3 + ["well"] * 3
    assert found.images["patient_id"].nunique() == 3
    assert found.aside["mask/m.png"] == "image without a label"


@pytest.mark.parametrize(
    ("text", "options", "kind", "sentence"),
    [
        (
            "file,label\na.png,x\nz.png,y\n",
            {},
            DataError,
            r"1 of 2 rows name no file, such as 'z.png': give --missing-films allow, or correct the path",
        ),
        ("file,label\nz.png,x\n", {"path_column": "file"}, DataError, "no row names a file of the data: column 'file'"),
        ("file,label\na.png,x\n", {"patient_column": "Patient"}, ConfigError, "column 'Patient' is not in t.csv"),
        ("file,class\na.png,x\n", {}, ConfigError, "column 'label' is not in t.csv; "),
        ("file,label\na.png,x\n", {"label_pattern": "(nothing)"}, DataError, "is found in no path, such as 'images/a"),
        ("file,label\na.png,x\n", {"exclude": ("label=x",)}, DataError, "no row of the tables is left"),
        (
            "file,label,p\na.png,x,1\na.png,x,2\n",
            {"patient_column": "p"},
            DataError,
            r"rows that disagree \(patient 1, 2",
        ),
    ],
)
def test_what_contradicts_the_data_is_refused(
    text: str, options: dict[str, object], kind: type[CxrError], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(kind, match=sentence):
        resolved(tmp_path, text, **options)


def test_rows_of_films_that_are_not_there_may_be_allowed(tmp_path: Path) -> None:
    text = "file,label\na.png,x\nz.png,y\n"
    assert resolved(tmp_path, text, missing_films="allow").images.index.tolist() == FILES[:1]


def test_images_without_a_row_are_counted_with_their_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = [*FILES, "x/masks/1.png", "y/masks/2.png"]
    resolved(tmp_path, table(label=list("xyxyxy")), files=files)
    assert "of 8 images 2 have no row, all in 'masks/'" in caplog.text


def test_the_hash_covers_tables_and_rows_but_not_the_key(tmp_path: Path) -> None:
    text = table(A=[1, -1, 0], patient_id=["1", "2", "2"])

    def hash_of(key: bytes = bytes(32), **options: object) -> str:
        (tmp_path / "t.csv").write_text(text)
        labelling = Labelling(labels=("t.csv",), label_columns=("A",), **options)
        return resolve(labelling, open_source(str(tmp_path)), FILES, lambda: key).sha256

    for file in FILES:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    first = hash_of(uncertain="mask")
    assert hash_of(bytes(range(32)), uncertain="mask") == first
    assert hash_of(uncertain="positive") != first
    text = table(A=[1, -1, 0], patient_id=["1", "2", "3"])
    assert hash_of(uncertain="mask") != first


def test_a_zip_gives_what_its_folder_gives(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    of_folder = resolved(folder, table(label=["x", "y", "x"]))
    archive = shutil.make_archive(str(tmp_path / "data"), "zip", folder)
    found = resolve(Labelling(labels=("t.csv",)), open_source(archive), FILES, lambda: bytes(32))
    assert found.sha256 == of_folder.sha256 or found.findings.equals(of_folder.findings)


def test_a_class_of_fewer_patients_than_folds_is_refused(tmp_path: Path) -> None:
    text = table(label=["x", "x", "x", "y", "y", "y"], patient_id=["1", "1", "2", "3", "4", "5"])
    found = resolved(tmp_path, text)
    require_patients(found, 2)
    with pytest.raises(FoldError, match="'x' has images of 2 patients, fewer than 3 folds"):
        require_patients(found, 3)


def test_a_table_of_the_size_of_nih_resolves_to_what_is_written_in_it(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    n_images = 20_000
    patient = np.sort(generator.integers(1, 6000, n_images))
    names = [f"{p:08d}_{k:06d}.png" for k, p in enumerate(patient)]
    findings = generator.choice(["No Finding", "Edema", "Edema|Mass", "Mass"], n_images)
    stream = io.StringIO()
    columns = {"Image Index": names, "Finding Labels": findings, "Patient ID": patient}
    pd.DataFrame(columns).to_csv(stream, index=False)
    (tmp_path / "t.csv").write_text(stream.getvalue())
    files = [f"images_{1 + k % 12:03d}/images/{name}" for k, name in enumerate(names)]
    options = {"label_column": "Finding Labels", "separator": "|", "patient_column": "Patient ID"}
    labelling = Labelling(labels=("t.csv",), **options, value=("Finding Labels:No Finding=absent",))
    found = resolve(labelling, open_source(str(tmp_path)), files, lambda: bytes(32))
    expected = pd.Series(["Mass" in text for text in findings], index=files)
    assert (found.findings["Mass"] == expected[found.findings.index]).all()
    assert found.images["patient_id"].nunique() == len(set(patient))
