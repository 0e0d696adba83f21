import hashlib
import os
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from cxr.config import TrainConfig
from cxr.dataset import manifest
from cxr.dataset.listing.layout import list_images
from cxr.dataset.patients import SHARED
from cxr.images.source import open_source
from tests.support.images import make_dicom

Tree = Callable[[dict[str, bytes]], Path]
SourceImage = Callable[..., bytes]


def build(data: Path, cache: Path, **fields: object) -> pd.DataFrame:
    source = open_source(str(data))
    config = TrainConfig(data=str(data), **fields)
    return manifest.build_manifest(source, list_images(source), config, cache, 32)


def test_every_image_found_has_one_row_with_the_contract_columns(sample: Path, tmp_path: Path) -> None:
    table = build(sample, tmp_path / "cache")
    assert list(table.columns) == manifest.COLUMNS
    assert sorted(table["path"]) == sorted(p.relative_to(sample).as_posix() for p in sample.rglob("*.jpeg"))
    row = table[table["status"] == "used"].iloc[0]
    data = (sample / row["path"]).read_bytes()
    assert (row["image_id"], row["n_bytes"]) == (hashlib.sha256(data).hexdigest(), len(data))
    assert manifest.count_images(table) == {"found": 80, "unreadable": 1, "duplicate": 3, "used": 76}


def test_unreadable_images_are_rows_with_a_reason(tree: Tree, image: SourceImage, tmp_path: Path) -> None:
    root = tree(
        {"A/ok.png": image(format="PNG"), "A/empty.jpeg": b"", "B/text.jpeg": b"hello", "B/half.jpeg": image()[:-200]}
    )
    locked = root / "B" / "locked.png"
    locked.write_bytes(image())
    locked.chmod(0)
    os.mkfifo(root / "B" / "pipe.png")
    (root / "B" / "gone.png").symlink_to(root / "nowhere.png")
    rows = build(root, tmp_path / "cache").set_index("path")
    assert rows.loc["A/ok.png", "status"] == "used"
    assert rows.drop("A/ok.png")["status"].drop("B/locked.png").eq("unreadable").all()
    reasons = rows["reason"].fillna("").to_dict()
    assert reasons["A/empty.jpeg"].startswith("empty")
    assert reasons["B/text.jpeg"].startswith("not an image")
    assert reasons["B/half.jpeg"].startswith("truncated")
    assert "not a regular file" in reasons["B/pipe.png"]
    assert "No such file" in reasons["B/gone.png"]
    if os.geteuid() != 0:  # root reads everything
        assert "Permission denied" in reasons["B/locked.png"]


def test_damaged_and_unusual_zip_members_are_rows_with_a_reason(image: SourceImage, tmp_path: Path) -> None:
    ways = {
        "A/1.png": zipfile.ZIP_STORED,
        "A/2.png": zipfile.ZIP_DEFLATED,
        "B/3.png": zipfile.ZIP_STORED,
        "B/4.png": zipfile.ZIP_BZIP2,
    }
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for seed, (name, way) in enumerate(ways.items()):
            archive.writestr(name, image(seed), way)
        places = {info.filename: info.header_offset for info in archive.infolist()}
    data = bytearray((tmp_path / "x.zip").read_bytes())
    for name in ("A/2.png", "B/3.png"):
        data[places[name] + 60 : places[name] + 80] = b"\xff" * 20
    (tmp_path / "x.zip").write_bytes(data)
    rows = build(tmp_path / "x.zip", tmp_path / "cache").set_index("path")
    assert rows["status"].to_dict() == {"A/1.png": "used"} | dict.fromkeys(
        ["A/2.png", "B/3.png", "B/4.png"], "unreadable"
    )
    assert rows.loc["A/2.png":, "reason"].str.startswith("cannot be read: ").all()
    assert rows.loc["B/4.png", "reason"].endswith("compressed in an unusual way in the zip")


def test_copies_are_marked_and_name_their_original(tree: Tree, image: SourceImage, tmp_path: Path) -> None:
    table = build(tree({"A/1.png": image(1), "A/2.png": image(1), "B/3.png": image(3)}), tmp_path / "cache").set_index(
        "path"
    )
    assert table["status"].to_dict() == {"A/1.png": "used", "A/2.png": "duplicate", "B/3.png": "used"}
    assert table.loc["A/2.png", "reason"] == "same bytes as A/1.png"


def test_the_same_bytes_in_two_classes_name_each_other_and_are_counted(
    tree: Tree, image: SourceImage, tmp_path: Path
) -> None:
    files = {"A/1.png": image(1), "A/2.png": image(1), "B/1.png": image(1), "B/3.png": image(3)}
    table = build(tree(files), tmp_path / "cache")
    rows = table.set_index("path")
    assert rows["status"].to_dict() == {"A/1.png": "used", "A/2.png": "duplicate", "B/1.png": "used", "B/3.png": "used"}
    assert rows.loc["A/1.png", "reason"] == "same bytes as B/1.png, which is B"
    assert rows.loc["B/1.png", "reason"] == "same bytes as A/1.png, which is A"
    assert manifest.count_identical(table) == {"groups": 1, "images": 3, "across_classes": 1}


def test_an_image_keeps_its_vital_signs_whatever_the_size_and_an_unreadable_one_has_none(
    sample: Path, tmp_path: Path
) -> None:
    listing = list_images(open_source(str(sample)))
    config = TrainConfig(data=str(sample))
    source = open_source(str(sample))
    tables = [manifest.build_manifest(source, listing, config, tmp_path / str(size), size) for size in (None, 32, 64)]
    for table in tables[1:]:
        pd.testing.assert_frame_equal(table, tables[0])
    readable = tables[0]["status"] != "unreadable"
    assert tables[0].loc[readable, manifest.VITALS].notna().all(axis=None)
    assert tables[0].loc[~readable, manifest.VITALS].isna().all(axis=None)


def test_a_lost_vitals_cache_is_measured_again(sample: Path, tmp_path: Path) -> None:
    before = build(sample, tmp_path / "cache")
    shutil.rmtree(tmp_path / "cache" / "vitals")
    pd.testing.assert_frame_equal(build(sample, tmp_path / "cache"), before)


def test_patient_and_subtype_are_read_from_kaggle_names(tree: Tree, image: SourceImage, tmp_path: Path) -> None:
    names = [
        "PNEUMONIA/person12_bacteria_3.jpeg",
        "PNEUMONIA/person12_virus_4.jpeg",
        "NORMAL/IM-0115-0001.jpeg",
        "NORMAL/NORMAL2-IM-0115-0001-0002.jpeg",
        "NORMAL/other.jpeg",
    ]
    root = tree({name: image(seed) for seed, name in enumerate(names)})
    table = build(root, tmp_path / "cache").set_index("path").loc[names]
    assert table["patient_id"].fillna("-").tolist() == ["person12", "person12", "IM-0115", "NORMAL2-IM-0115", "-"]
    assert table["subtype"].fillna("-").tolist() == ["bacteria", "virus", "-", "-", "-"]
    by_subtype = build(root, tmp_path / "cache", label_from="subtype").set_index("path").loc[names]
    assert by_subtype["label"].tolist() == ["bacteria", "virus", "NORMAL", "NORMAL", "NORMAL"]


def test_own_names_give_patients_by_a_pattern(tree: Tree, image: SourceImage, tmp_path: Path) -> None:
    root = tree({"A/0007_2.png": image(1), "B/0009_1.png": image(2)})
    assert build(root, tmp_path / "cache", patient_pattern=r"^(\d+)_")["patient_id"].tolist() == ["0007", "0009"]


def test_a_folder_and_its_archives_have_the_same_manifest(sample: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for path in sample.rglob("*.jpeg"):
            archive.write(path, Path("wrapper") / path.relative_to(sample))
    for name, mode in (("x.tar", "w"), ("x.tgz", "w:gz")):
        with tarfile.open(tmp_path / name, mode) as archive:
            archive.add(sample, "wrapper")
    sources = [sample, *(tmp_path / name for name in ("x.zip", "x.tar", "x.tgz"))]
    tables = [build(data, tmp_path / "cache") for data in sources]
    for table in tables[1:]:
        pd.testing.assert_frame_equal(table, tables[0])
        assert manifest.data_hash(table) == manifest.data_hash(tables[0])
    tables[1].loc[0, "label"] = "other"
    assert manifest.data_hash(tables[0]) != manifest.data_hash(tables[1])


def test_the_same_placeholder_in_all_dicom_files_leaves_the_patient_to_the_pattern(tree: Tree, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 4095, (6, 64, 64), dtype=np.uint16)
    ids = ["ANONYMOUS", "anonymous ", "Anonymous^", "0000", "n/a", "REAL-7"]
    names = [f"{'AB'[k % 2]}/person{k // 2}_{k}.dcm" for k in range(6)]
    root = tree({name: make_dicom(pixels[k], PatientID=ids[k]) for k, name in enumerate(names)})
    rows = build(root, tmp_path / "cache").set_index("path")
    rows = rows.sort_index(key=lambda paths: paths.str[-5])
    assert rows["patient_id"].tolist()[:5] == ["person0", "person0", "person1", "person1", "person2"]
    assert rows["patient_from"].tolist() == ["name"] * 5 + ["dicom"]
    assert rows["patient_id"].iloc[5].startswith("dicom-")
    assert rows["reason"].fillna("-").tolist() == [SHARED] * 5 + ["-"]
    assert (rows["status"] == "used").all()


def test_a_dicom_file_named_as_a_picture_keeps_its_patient(tree: Tree, tmp_path: Path) -> None:
    rows = build(tree({"A/1.png": make_dicom(), "B/2.jpeg": make_dicom()}), tmp_path / "cache")
    assert rows["patient_id"].str.fullmatch("dicom-[0-9a-f]{16}").all()
    assert rows["patient_id"].nunique() == 1
