import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from cxr.dataset.listing.layout import count_kinds, left_aside_table, list_images, name_left_aside
from cxr.errors import DataError
from cxr.images.source import open_source
from tests.support.images import make_dicom

Tree = Callable[[dict[str, bytes]], Path]


def zipped(root: Path, archive: Path) -> Path:
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(root.rglob("*")):
            if path.is_file():
                file.write(path, path.relative_to(root.parent))
    return archive


def test_a_folder_and_a_zip_of_it_list_the_same_images(tree: Tree, tmp_path: Path) -> None:
    root = tree({"train/A/1.jpeg": b"1", "test/B/2.PNG": b"22", "val/B/3.jpg": b"333", "notes.csv": b"-"})
    of_folder = list_images(open_source(str(root)))
    of_zip = list_images(open_source(str(zipped(root, tmp_path / "images.zip"))))
    facts = [(image.path, image.class_folder, image.split, image.n_bytes) for image in of_folder.images]
    assert facts == [
        ("test/B/2.PNG", "B", "test", 2),
        ("train/A/1.jpeg", "A", "train", 1),
        ("val/B/3.jpg", "B", "val", 3),
    ]
    assert facts == [(image.path, image.class_folder, image.split, image.n_bytes) for image in of_zip.images]
    assert count_kinds(of_folder.left_aside) == count_kinds(of_zip.left_aside) == {"other file": 1}


def test_classes_need_no_split_folder(tree: Tree) -> None:
    images = list_images(open_source(str(tree({"A/1.png": b"1", "B/2.png": b"2"})))).images
    assert [(image.class_folder, image.split) for image in images] == [("A", None), ("B", None)]


def test_other_files_of_the_real_kaggle_archive_are_counted_and_not_read(tree: Tree) -> None:
    images = {"train/NORMAL/IM-1.jpeg": b"one", "test/PNEUMONIA/person1_virus_2.jpeg": b"three"}
    junk = {
        "__MACOSX/chest_xray/train/NORMAL/._IM-1.jpeg": b"x",
        "chest_xray/train/NORMAL/._IM-1.jpeg": b"x",
        "chest_xray/train/.DS_Store": b"x",
        "chest_xray/Thumbs.db": b"x",
        "chest_xray/__MACOSX/chest_xray/train/NORMAL/._IM-1.jpeg": b"x",
    }
    outer = {f"chest_xray/{name}": data for name, data in images.items()}
    nested = {f"chest_xray/chest_xray/{name}": data for name, data in images.items()}
    root = tree(outer | nested | junk)
    for data in (root, root / "chest_xray"):
        listing = list_images(open_source(str(data)))
        assert [image.path for image in listing.images] == sorted(images)
        assert count_kinds(listing.left_aside)["nested copy"] == 2
    whole = list_images(open_source(str(root)))
    assert count_kinds(whole.left_aside) == {"nested copy": 2, "macOS copy": 3, "folder settings": 2}


def test_images_at_another_depth_are_an_error_that_names_their_folders(tree: Tree) -> None:
    images = {f"train/{label}/{k}.png": b"1" for label in "AB" for k in range(4)}
    strays = {"train/A/crops/1.png": b"2", "train/A/crops/2.png": b"3", "old/train/B/9.png": b"4"}
    with pytest.raises(DataError) as caught:
        list_images(open_source(str(tree(images | strays))))
    assert str(caught.value).startswith(
        "images lie under 3 roots: most have their class folders in '.', but these folders do not fit: "
        "'train/A/crops' (2), 'old/train/B' (1). Move them"
    )


def test_images_without_a_class_folder_are_an_error_that_shows_the_layout(tree: Tree) -> None:
    with pytest.raises(DataError, match=r"'1.png' lies in none.*Expected ROOT"):
        list_images(open_source(str(tree({"1.png": b"1"}))))


def test_a_folder_without_images_is_an_error(tree: Tree) -> None:
    with pytest.raises(DataError, match="no image found among 1 files"):
        list_images(open_source(str(tree({"A/readme.txt": b"1"}))))


HIDDEN = {
    ".ipynb_checkpoints/1-checkpoint.png": "system folder",
    "train/@eaDir/A/1.png/SYNOPHOTO_THUMB_M.jpg": "system folder",
    "train/A/.thumbnails/1.png": "system folder",
    "$RECYCLE.BIN/2.png": "system folder",
    "train/B/__MACOSX/2.png": "macOS copy",
    "train/.backup/A/1.png": "hidden folder",
    "train/A/.1.png": "hidden file",
}


@pytest.mark.parametrize("as_zip", [False, True])
def test_hidden_and_system_folders_are_no_classes_and_are_left_aside_by_name(
    tree: Tree, tmp_path: Path, as_zip: bool
) -> None:
    root = tree({"train/A/1.png": b"1", "train/B/2.png": b"2"} | dict.fromkeys(HIDDEN, b"-"))
    data = zipped(root, tmp_path / "images.zip") if as_zip else root
    listing = list_images(open_source(str(data)))
    assert [(image.path, image.class_folder) for image in listing.images] == [
        ("train/A/1.png", "A"),
        ("train/B/2.png", "B"),
    ]
    assert {file.path.removeprefix("images/"): file.kind for file in listing.left_aside} == HIDDEN


def test_an_empty_hidden_or_system_folder_is_no_empty_class(tree: Tree) -> None:
    root = tree({"A/1.png": b"1", "B/2.png": b"2"})
    for name in (".cache", "@eaDir", "lost+found", "C"):
        (root / name).mkdir()
    assert list_images(open_source(str(root))).empty_folders == ["C"]


def test_a_data_set_whose_images_are_all_hidden_is_an_error_that_says_so(tree: Tree) -> None:
    with pytest.raises(DataError, match="no image found among 2 files: 2 × hidden folder"):
        list_images(open_source(str(tree({".export/A/1.png": b"1", ".export/B/2.png": b"2"}))))


def test_dicom_is_found_without_a_suffix_and_nothing_else_is(tree: Tree) -> None:
    dicom = make_dicom()
    images = {"A/IM-0001-0001": dicom, "A/1.2.840.113619.2": dicom, "B/3.dicom": dicom, "B/4.DCM": dicom}
    others = {"DICOMDIR": dicom, "B/README": b"notes", "B/empty": b""}
    listing = list_images(open_source(str(tree(images | others))))
    assert [image.path for image in listing.images] == sorted(images)
    assert {file.path: file.kind for file in listing.left_aside} == {
        "DICOMDIR": "DICOM directory",
        "B/README": "other file",
        "B/empty": "other file",
    }


def test_a_line_per_kind_names_the_first_files_left_aside(tree: Tree) -> None:
    notes = {f"A/{k}.txt": b"-" for k in range(5)} | {"A/2\x1b[2J\n.tif": b"-"}
    listing = list_images(open_source(str(tree({"A/1.png": b"1"} | notes))))
    assert name_left_aside(left_aside_table(listing.left_aside)) == [
        "1 × image in another format (.tif): 'A/2\\x1b[2J\\n.tif'",
        "5 × other file: 'A/0.txt', 'A/1.txt', 'A/2.txt', …",
    ]
