import stat
import warnings
import zipfile
from pathlib import Path

import pytest

from cxr.errors import DataError
from cxr.images.archives.zip_archive import ZipArchive


def archive_of(place: Path, members: list[str]) -> Path:
    """A zip with these members, each holding its own raw name: written as they are, whatever they look like."""
    path = place / "x.zip"
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as archive:
        warnings.simplefilter("ignore", UserWarning)  # zipfile's own, about a name that is there already
        for name in members:
            archive.writestr(zipfile.ZipInfo(name), b"" if name.endswith(("/", "\\")) else name.encode())
    return path


def test_an_archive_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    whole = archive_of(tmp_path, ["A/1.png"]).read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[:-20])
    with pytest.raises(DataError, match=r"the zip '.*cut.zip' cannot be opened: File is not a zip file"):
        ZipArchive(tmp_path / "cut.zip")


@pytest.mark.parametrize("name", ["../A/1.png", "/A/1.png", "A/../../1.png", "C:/A/1.png", "..\\A\\1.png"])
def test_a_zip_whose_member_leads_out_of_it_is_refused(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(zipfile.ZipInfo(name), b"1")
    with pytest.raises(DataError, match="unsafe"):
        ZipArchive(tmp_path / "x.zip")


def test_a_zip_bomb_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(3):
            archive.writestr(f"A/{number}.png", bytes(100 * 2**20))
    with pytest.raises(DataError, match=r"unsafe.*100 times"):
        ZipArchive(tmp_path / "bomb.zip")


def test_a_link_in_a_zip_is_not_followed(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("A/1.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(OSError, match="link"):
        ZipArchive(tmp_path / "x.zip").read("A/1.png")


def test_a_member_that_is_compressed_in_an_unusual_way_is_not_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("A/1.png", b"1")
    with pytest.raises(OSError, match="compressed in an unusual way in the zip"):
        ZipArchive(tmp_path / "x.zip").read("A/1.png")


def test_an_encrypted_member_is_listed_and_not_read(tmp_path: Path) -> None:
    path = archive_of(tmp_path, ["A/1.png"])
    data = bytearray(path.read_bytes())
    for header, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(header) + flags] |= 1  # the bit of the format that says so
    path.write_bytes(data)
    opened = ZipArchive(path)
    assert opened.sizes() == {"A/1.png": 7}
    with pytest.raises(OSError, match="encrypted in the zip"):
        opened.read("A/1.png")


def test_the_head_of_a_member_has_no_more_than_the_bytes_that_are_asked_for(tmp_path: Path) -> None:
    opened = ZipArchive(archive_of(tmp_path, ["A/1.png"]))
    assert [opened.head("A/1.png", n) for n in (0, 3, 99)] == [b"", b"A/1", b"A/1.png"]


def test_backslashes_in_a_zip_are_read_as_windows_tools_mean_them(tmp_path: Path) -> None:
    opened = ZipArchive(archive_of(tmp_path, ["train\\", "train\\A\\1.png", "train\\B\\", "./train//A/2.png"]))
    assert opened.sizes() == {"train/A/1.png": 13, "train/A/2.png": 16}
    assert opened.read("train/A/1.png") == b"train\\A\\1.png"
    assert opened.empty_folders() == ["train/B"]


@pytest.mark.parametrize("twin", ["A/1.png", "A//1.png", "A/./1.png", "./A/1.png", "A\\1.png", "A/1.png\0.txt"])
def test_a_zip_with_two_members_for_one_path_is_refused_and_names_both(tmp_path: Path, twin: str) -> None:
    with pytest.raises(DataError, match=r"two members for one path, 'A/1\.png' and '.*A.*1\.png'.*again"):
        ZipArchive(archive_of(tmp_path, ["A/1.png", "B/1.png", twin]))


def test_members_whose_names_differ_in_letter_case_are_two_files(tmp_path: Path) -> None:
    opened = ZipArchive(archive_of(tmp_path, ["A/1.png", "A/1.PNG"]))
    assert {path: opened.read(path) for path in opened.sizes()} == {"A/1.png": b"A/1.png", "A/1.PNG": b"A/1.PNG"}
