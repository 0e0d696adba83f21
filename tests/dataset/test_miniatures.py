"""What becomes of collections as people hold them: read with their patients, or refused with the way out."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from cxr.config import DataConfig
from cxr.dataset.examination import examine
from cxr.dataset.known_patients import NOBODY
from cxr.dataset.listing.layout import Listing, list_images
from cxr.errors import ConfigError, DataError
from cxr.images.source import open_source
from cxr.storage import files
from cxr.storage.run_folder import RunFolder
from tests.support import miniatures

Tree = Callable[[dict[str, bytes]], Path]
Files = dict[str, bytes]


def examined(root: Path, place: Path, **fields: object) -> RunFolder:
    folder = RunFolder(place / "run")
    examine(DataConfig(data=str(root), **({"folds": 2} | fields)), folder, cache=place / "cache")
    return folder


def listed(root: Path, *class_folder: str) -> Listing:
    return list_images(open_source(str(root)), class_folder)


def classes(listing: Listing) -> dict[str, int]:
    """How many images each class has."""
    folders = [image.class_folder for image in listing.images]
    return {name: folders.count(name) for name in sorted(set(folders))}


REFUSED = {
    "COVIDx": (
        miniatures.covidx(),
        r"6 of 6 images .* in 'test' \(the name of a split\), 'train' \(the name of a split\), 'val' \(the",
    ),
    "COVIDx in a folder": ({f"data/{name}": data for name, data in miniatures.covidx().items()}, "6 of 6 images"),
    "two splits": (
        miniatures.drawn(["train/1.png", "test/2.png"]),
        r"'test' \(the name of a split\), 'train' .* name every class: --class-folder 'test' --class-folder 'train'",
    ),
    "splits of other names": (
        miniatures.drawn(["Training/1.png", "dev/2.png", "VALIDATE/3.png", "testing/4.png"]),
        "'Training' .*, 'VALIDATE' .*, 'dev' .*, 'testing'",
    ),
    "PadChest": (
        miniatures.padchest(),
        r"8 of 8 images are in no folder named after a class, but in '0' \(a number\), '1' \(a number\), '2' ",
    ),
    "TBX11K": (
        miniatures.tbx11k(),
        r"2 of 8 images .* but in 'test' \(the name of a split\): put each into one, or leave these out with "
        "--class-folder 'health' --class-folder 'sick' --class-folder 'tb'",
    ),
    "a class folder of COVID-19 Radiography alone": (
        miniatures.drawn(["images/COVID-1.png", "images/COVID-2.png", "masks/COVID-1.png"]),
        r"2 of 2 images .* but in 'images' \(a word for files\)",
    ),
    "NIH as it comes": (
        miniatures.drawn(["images_001/images/00000001_000.png", "images_002/images/00000003_000.png"]),
        r"'images_001' \(a word for files\), 'images_002'",
    ),
    "Shenzhen": (
        miniatures.drawn(["CXR_png/CHNCXR_0327_1.png", "CXR_png/CHNCXR_0001_0.png", "masks/CHNCXR_0001_0_mask.png"]),
        "two classes or more are needed, but all 2 images are in folders of the class 'CXR_png'",
    ),
    "images and annotations": (
        miniatures.drawn(["images/1.png", "images/2.png", "annotations/1.png"]),
        r"2 of 2 images .* 'images' \(a word for files\)",
    ),
    "Mendeley v3 with its retinas": (
        miniatures.oct_beside_kermany(),
        r"images lie under 2 roots: .*\. Give the folder of one root alone, in an archive too: "
        r"--data …/CellData/chest_xray \(30 images\) or --data …/CellData/OCT \(8 images\)\.",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_folders_that_are_no_classes_are_refused_with_the_way_out_before_an_image_is_read(
    tree: Tree, tmp_path: Path, name: str
) -> None:
    contents, sentence = REFUSED[name]
    root = tree(dict.fromkeys(contents, b"no image"))
    with pytest.raises(DataError, match=sentence):
        examined(root, tmp_path)
    assert not (tmp_path / "cache").exists()
    assert not (tmp_path / "run" / "data.json").exists()


def test_the_way_out_of_numbered_folders_is_to_name_the_positive_one_or_all_classes(tree: Tree, tmp_path: Path) -> None:
    two = tree(miniatures.drawn([f"{label}/{n}.png" for label in "01" for n in range(2)]))
    with pytest.raises(DataError, match="name every class: --class-folder '0' --class-folder '1'"):
        examined(two, tmp_path)
    assert files.read_json(examined(two, tmp_path, positive="1").data)["classes"] == ["0", "1"]


def test_named_class_folders_leave_the_others_out(tree: Tree, tmp_path: Path) -> None:
    root = tree(miniatures.tbx11k())
    folder = examined(root, tmp_path, class_folder=("health", "sick", "tb"))
    facts = files.read_json(folder.data)
    assert facts["classes"] == facts["class_folders"] == ["health", "sick", "tb"]
    assert facts["left_aside"] == {"image outside the class folders": 2}


def test_a_class_folder_that_nothing_is_in_is_refused_by_name(tree: Tree) -> None:
    with pytest.raises(
        ConfigError, match="--class-folder 'Health' names no folder with images; those are 'health', 's"
    ):
        listed(tree(miniatures.tbx11k()), "Health", "sick")


def test_masks_beside_images_are_left_aside_and_the_class_is_the_folder_above(tree: Tree) -> None:
    listing = listed(tree(miniatures.covid_radiography()))
    assert classes(listing) == {"COVID": 2, "Normal": 2}
    assert [file.path for file in listing.left_aside if file.kind == "mask or annotation"] == [
        "COVID/masks/COVID-1.png",
        "COVID/masks/COVID-2.png",
        "Normal/masks/Normal-1.png",
        "Normal/masks/Normal-2.png",
    ]


def test_an_image_folder_made_by_a_script_has_its_splits_whatever_they_are_called(tree: Tree) -> None:
    names = [
        f"{split}/{label}/{n}.png" for split in ("Training", "validate", "Testing") for label in "AB" for n in "12"
    ]
    listing = listed(tree(miniatures.drawn(names)))
    assert {(image.path.split("/")[0], image.split) for image in listing.images} == {
        ("Training", "train"),
        ("validate", "val"),
        ("Testing", "test"),
    }
    assert classes(listing) == {"A": 6, "B": 6}


def test_a_class_above_its_splits_is_the_class(tree: Tree) -> None:
    listing = listed(
        tree(miniatures.drawn([f"set/{label}/{split}/1.png" for label in "AB" for split in ("train", "dev")]))
    )
    facts = [(image.path, image.class_folder, image.split) for image in listing.images]
    assert facts == [
        ("A/dev/1.png", "A", "val"),
        ("A/train/1.png", "A", "train"),
        ("B/dev/1.png", "B", "val"),
        ("B/train/1.png", "B", "train"),
    ]


PATIENTS = {
    "Mendeley v3": (miniatures.kermany(), {"file names": {"n_images": 30, "n_patient_ids": 12}}, "PNEUMONIA"),
    "NIH": (
        miniatures.nih(
            {
                "Effusion": ["00000001_000.png", "00000001_001.png", "00000003_000.png"],
                "Mass": ["00000002_000.png", "00000004_000.png"],
            }
        ),
        {"file names": {"n_images": 5, "n_patient_ids": 4}},
        "Mass",
    ),
    "CheXpert": (miniatures.chexpert(), {"paths": {"n_images": 12, "n_patient_ids": 6}}, "Edema"),
    "MIMIC": (miniatures.mimic(), {"paths": {"n_images": 12, "n_patient_ids": 6}}, "Edema"),
}


@pytest.mark.parametrize("name", PATIENTS)
def test_patients_of_known_collections_are_found_said_and_kept_in_one_fold(
    tree: Tree, tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    contents, counted, positive = PATIENTS[name]
    with caplog.at_level(logging.INFO):
        folder = examined(tree(contents), tmp_path, positive=positive)
    certificate = files.read_json(folder.certificate)
    assert certificate["patient_ids_from"] == counted
    assert certificate["patients_remark"] is None
    assert certificate["n_images_without_patient_id"] == 0
    (sentence,) = [record.getMessage() for record in caplog.records if record.getMessage().startswith("patients: ")]
    assert name in sentence
    assert name in certificate["patient_key"]
    known = files.read_table(folder.folds).merge(files.read_table(folder.manifest), on=["image_id", "path"])
    assert known.groupby("patient_id")["fold"].nunique().max() == 1


def test_the_largest_patient_is_in_the_certificate(tree: Tree, tmp_path: Path) -> None:
    names = ["00000001_000.png", "00000001_001.png", "00000001_002.png", "00000002_000.png"]
    root = tree(miniatures.nih({"Effusion": names, "Mass": ["00000003_000.png", "00000004_000.png"]}))
    certificate = files.read_json(examined(root, tmp_path, positive="Mass").certificate)
    assert certificate["largest_patient"] == {"patient_id": "00000001", "n_images": 3}
    assert certificate["n_patients_with_several_images"] == 1


def test_subtypes_of_mendeley_v3_are_read_from_its_names(tree: Tree, tmp_path: Path) -> None:
    folder = examined(tree(miniatures.kermany()), tmp_path, label_from="subtype")
    assert files.read_json(folder.data)["classes"] == ["NORMAL", "bacteria", "virus"]


def test_one_data_set_of_several_in_a_folder_is_given_by_its_folder(tree: Tree) -> None:
    root = tree(miniatures.oct_beside_kermany())
    assert classes(listed(root / "CellData" / "chest_xray")) == {"NORMAL": 10, "PNEUMONIA": 20}


def test_ids_of_dicom_that_are_all_different_are_said_and_give_way_to_a_pattern(
    tree: Tree, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tree(miniatures.rsna())
    folder = examined(root, tmp_path / "as it comes", positive="Opacity")
    certificate = files.read_json(folder.certificate)
    assert certificate["patients_remark"] == NOBODY
    assert certificate["patient_ids_from"] == {"DICOM's PatientID": {"n_images": 8, "n_patient_ids": 8}}
    assert NOBODY in caplog.text
    caplog.clear()
    given = examined(root, tmp_path / "given", positive="Opacity", patient_pattern=r"^(\w+_p\d)-\d")
    certificate = files.read_json(given.certificate)
    assert certificate["patient_ids_from"] == {"file names": {"n_images": 8, "n_patient_ids": 4}}
    assert certificate["largest_patient"]["n_images"] == 2
    assert certificate["patients_remark"] is None
    assert NOBODY not in caplog.text


def test_ids_that_are_missing_throughout_are_said(tree: Tree, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = tree(miniatures.drawn([f"{label}/{label}{n}.png" for label in "AB" for n in range(3)]))
    certificate = files.read_json(examined(root, tmp_path, positive="B").certificate)
    assert certificate["patient_key"].startswith("none: ")
    assert (certificate["patient_ids_from"], certificate["largest_patient"]) == ({}, None)
    assert certificate["patients_remark"] == NOBODY
    assert NOBODY in caplog.text


def test_dicom_of_other_suffixes_is_read(tree: Tree, tmp_path: Path) -> None:
    folder = examined(tree(miniatures.vindr()), tmp_path, positive="B")
    manifest = files.read_table(folder.manifest)
    assert manifest["status"].tolist() == ["used"] * 4
    assert manifest["patient_id"].isna().all()
