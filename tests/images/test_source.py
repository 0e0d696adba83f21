import os
import stat
import sys
import tempfile
import types
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from cxr.errors import DataError
from cxr.images import source
from cxr.images.source import list_images, open_source

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
    assert of_folder.left_aside == of_zip.left_aside == {"other file": 1}


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
        assert listing.left_aside["nested copy"] == 2
    whole = list_images(open_source(str(root)))
    assert whole.left_aside == {"nested copy": 2, "macOS copy": 3, "folder settings": 2}


def test_images_under_two_roots_that_are_no_copies_are_an_error(tree: Tree) -> None:
    with pytest.raises(DataError, match=r"2 roots.*Expected ROOT"):
        list_images(open_source(str(tree({"a/A/1.png": b"1", "b/A/2.png": b"2"}))))


def test_images_without_a_class_folder_are_an_error_that_shows_the_layout(tree: Tree) -> None:
    with pytest.raises(DataError, match=r"'1.png' lies in none.*Expected ROOT"):
        list_images(open_source(str(tree({"1.png": b"1"}))))


def test_a_folder_without_images_is_an_error(tree: Tree) -> None:
    with pytest.raises(DataError, match="no image found among 1 files"):
        list_images(open_source(str(tree({"A/readme.txt": b"1"}))))


@pytest.mark.parametrize("data", ["nowhere", "nowhere.zip"])
def test_data_that_does_not_exist_is_an_error(data: str) -> None:
    with pytest.raises(DataError, match="does not exist"):
        open_source(data)


def test_a_damaged_zip_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(b"PK\x03\x04 this is no archive")
    with pytest.raises(DataError, match="neither a folder nor a zip"):
        open_source(str(tmp_path / "x.zip"))


@pytest.mark.parametrize("name", ["../A/1.png", "/A/1.png", "A/../../1.png", "C:/A/1.png", "..\\A\\1.png"])
def test_a_zip_whose_member_leads_out_of_it_is_refused(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(zipfile.ZipInfo(name), b"1")
    with pytest.raises(DataError, match="unsafe"):
        open_source(str(tmp_path / "x.zip"))


def test_a_zip_bomb_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(3):
            archive.writestr(f"A/{number}.png", bytes(100 * 2**20))
    with pytest.raises(DataError, match=r"unsafe.*100 times"):
        open_source(str(tmp_path / "bomb.zip"))


def test_a_link_in_a_zip_is_not_followed(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("A/1.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(OSError, match="link"):
        open_source(str(tmp_path / "x.zip")).read("A/1.png")


def test_a_folder_that_links_to_itself_is_walked_once(tree: Tree) -> None:
    root = tree({"A/1.png": b"1", "B/1.png": b"2"})
    (root / "A" / "again").symlink_to(root, target_is_directory=True)
    assert [image.path for image in list_images(open_source(str(root))).images] == ["A/1.png", "B/1.png"]


def test_names_that_are_no_unicode_are_listed_and_read(tree: Tree) -> None:
    root = tree({"A/1.png": b"1"})
    with open(os.fsencode(root) + b"/A/caf\xe9.png", "wb") as file:  # noqa: PTH123 bytes are no Path
        file.write(b"2")
    opened = open_source(str(root))
    names = [image.key for image in list_images(opened).images]
    assert names == ["A/1.png", r"A/caf\xe9.png"]
    assert opened.read(names[1]) == b"2"


def test_kaggle_out_of_reach_says_how_to_get_the_archive_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(name: str) -> str:
        raise ConnectionError(name)

    monkeypatch.setitem(sys.modules, "kagglehub", types.SimpleNamespace(dataset_download=unreachable))
    with pytest.raises(
        DataError, match=rf"by hand from https://www.kaggle.com/datasets/{source.KAGGLE_DATASET} .*\.zip"
    ):
        open_source("kaggle")


def test_a_link_that_the_system_cannot_follow_is_listed_and_refused_when_it_is_read(tree: Tree) -> None:
    root = tree({"A/1.png": b"1", "B/2.png": b"2"})
    (root / "B" / "3.png").symlink_to("x" * 300)
    opened = open_source(str(root))
    assert [(image.path, image.n_bytes) for image in list_images(opened).images][-1] == ("B/3.png", 0)
    with pytest.raises(OSError, match="File name too long"):
        opened.read("B/3.png")


def test_a_folder_that_may_be_listed_and_not_entered_is_named() -> None:
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "images" / "A"
        folder.mkdir(parents=True)
        (folder / "1.png").write_bytes(b"1")
        Path(place).chmod(0o755)
        folder.chmod(0o444)
        try:
            os.seteuid(65534 if user == 0 else user)  # root may do everything
            with pytest.raises(
                DataError, match=r"the files in '.*/images/A' cannot be looked at \(Permission denied\)"
            ):
                list_images(open_source(str(folder.parent)))
        finally:
            os.seteuid(user)
            folder.chmod(0o755)


def test_a_file_that_has_grown_past_the_limit_is_not_read_whole(tree: Tree) -> None:
    root = tree({"A/1.png": b"1"})
    opened = open_source(str(root))
    os.truncate(root / "A" / "1.png", source.MAX_IMAGE_BYTES)
    assert len(opened.read("A/1.png")) == source.MAX_IMAGE_BYTES
    os.truncate(root / "A" / "1.png", 4 * source.MAX_IMAGE_BYTES)
    with pytest.raises(OSError, match="it has grown to more than 268,435,456 bytes"):
        opened.read("A/1.png")
