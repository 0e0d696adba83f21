import errno
import os
import sys
import tempfile
import types
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest

from cxr.errors import DataError
from cxr.images import source
from cxr.images.source import litter, open_source

Tree = Callable[[dict[str, bytes]], Path]


@pytest.mark.parametrize("data", ["nowhere", "nowhere.zip"])
def test_data_that_does_not_exist_is_an_error(data: str) -> None:
    with pytest.raises(DataError, match="does not exist"):
        open_source(data)


def test_a_damaged_zip_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(b"PK\x03\x04 this is no archive")
    with pytest.raises(DataError, match="neither a folder nor a zip"):
        open_source(str(tmp_path / "x.zip"))


def test_a_folder_that_links_to_itself_is_walked_once(tree: Tree) -> None:
    root = tree({"A/1.png": b"1", "B/1.png": b"2"})
    (root / "A" / "again").symlink_to(root, target_is_directory=True)
    assert list(open_source(str(root)).sizes()) == ["A/1.png", "B/1.png"]


def test_names_that_are_no_unicode_are_listed_and_read(tree: Tree) -> None:
    root = tree({"A/1.png": b"1"})
    with open(os.fsencode(root) + b"/A/caf\xe9.png", "wb") as file:  # noqa: PTH123 bytes are no Path
        file.write(b"2")
    opened = open_source(str(root))
    names = list(opened.sizes())
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


@pytest.mark.parametrize("name", ["lost+found", ".cache"])
def test_a_hidden_or_system_folder_that_may_not_be_listed_stops_nothing(
    tree: Tree, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tree({"A/1.png": b"1", f"{name}/2.png": b"2"})
    deny_listing(monkeypatch, name)
    assert list(open_source(str(root)).sizes()) == ["A/1.png", name]


def test_a_class_folder_that_may_not_be_listed_is_an_error(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tree({"A/1.png": b"1", "B/2.png": b"2"})
    deny_listing(monkeypatch, "B")
    with pytest.raises(DataError, match="cannot be listed"):
        open_source(str(root))


def deny_listing(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let the system refuse to list a folder, as it does to anybody but root."""
    scandir = os.scandir

    def refuse(path: str | int) -> object:
        if not isinstance(path, int) and Path(path).name == name:  # a number, where pytest clears its folders
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("A/._1.png", "macOS copy"),
        ("__MACOSX/A/1.png", "macOS copy"),
        ("A/Thumbs.db", "folder settings"),
        ("A/THUMBS.DB", "folder settings"),
        ("A/@eaDir/1.png/SYNOPHOTO_THUMB_XL.jpg", "system folder"),
        ("$RECYCLE.BIN/S-1-5/1.png", "system folder"),
        ("System Volume Information/1.png", "system folder"),
        ("A/.Trash-1000/files/1.png", "system folder"),
        ("A/.ipynb_checkpoints/1-checkpoint.png", "system folder"),
        ("A/1.png", None),
        ("recycle/1.png", None),
    ],
)
def test_what_systems_leave_is_recognised_by_its_name(path: str, kind: str | None) -> None:
    assert litter(PurePosixPath(path)) == kind


def test_a_link_that_the_system_cannot_follow_is_listed_and_refused_when_it_is_read(tree: Tree) -> None:
    root = tree({"A/1.png": b"1", "B/2.png": b"2"})
    (root / "B" / "3.png").symlink_to("x" * 300)
    opened = open_source(str(root))
    assert opened.sizes()["B/3.png"] == 0
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
                open_source(str(folder.parent)).sizes()
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
