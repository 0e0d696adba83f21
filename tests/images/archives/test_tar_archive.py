import gzip
import io
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from cxr.dataset.listing.layout import list_images
from cxr.errors import DataError
from cxr.images.archives import tar_archive, zip_archive
from cxr.images.source import open_source
from tests.support.miniatures import drawn, kermany

Tree = Callable[[dict[str, bytes]], Path]
WAYS = {".tar": "w", ".tar.gz": "w:gz", ".tgz": "w:gz"}


def packed(place: Path, members: list[tarfile.TarInfo | str], name: str = "x.tar", **options: object) -> Path:
    """A tar with these members; one that is given by its name holds its own name."""
    path = place / name
    with tarfile.open(path, WAYS[name[name.index(".") :]], **options) as archive:
        for member in members:
            info = tarfile.TarInfo(member) if isinstance(member, str) else member
            data = info.name.encode() if info.isreg() else b""
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def special(name: str, type: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = type
    info.linkname = "/etc/passwd"
    return info


@pytest.mark.parametrize("suffix", WAYS)
@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_folder_a_zip_and_a_tar_of_it_hold_the_same_files(
    tree: Tree, tmp_path: Path, suffix: str, format: int
) -> None:
    long = "train/A/" + "x" * 90 + ".png"
    names = ["train/A/1.png", "train/B/\u80f8.png", "test/A/back\\slash.png", "notes.txt", long]
    root = tree(drawn(names))
    with open(os.fsencode(root) + b"/train/A/caf\xe9.png", "wb") as file:  # noqa: PTH123 bytes are no Path
        file.write(b"2")
    (root / "train" / "C").mkdir()
    with tarfile.open(tmp_path / f"x{suffix}", WAYS[suffix], format=format) as archive:
        archive.add(root, ".")
    folder, tar = open_source(str(root)), open_source(str(tmp_path / f"x{suffix}"))
    assert tar.sizes() == folder.sizes()
    assert tar.empty_folders() == folder.empty_folders() == ["train/C"]
    for path in folder.sizes():
        assert tar.read(path) == folder.read(path)
        assert tar.head(path, 5) == folder.read(path)[:5]
    assert [image.path for image in list_images(tar).images] == [image.path for image in list_images(folder).images]


@pytest.mark.parametrize("suffix", WAYS)
@pytest.mark.parametrize("name", ["../A/1.png", "/A/1.png", "A/../../1.png", "C:/A/1.png", "C:\\A\\1.png"])
def test_a_tar_whose_member_leads_out_of_it_is_refused(tmp_path: Path, name: str, suffix: str) -> None:
    path = packed(tmp_path, ["A/1.png", name], f"x{suffix}")
    with pytest.raises(DataError, match=r"unsafe: member .* leads out of it"):
        open_source(str(path)).sizes()


@pytest.mark.parametrize("twin", ["A/1.png", "./A/1.png", "A//1.png", "A/./1.png"])
def test_a_tar_with_two_members_for_one_path_is_refused(tmp_path: Path, twin: str) -> None:
    with pytest.raises(DataError, match=r"two members for one path, '.*A.*1\.png'.*again"):
        open_source(str(packed(tmp_path, ["A/1.png", "B/1.png", twin]))).sizes()


@pytest.mark.parametrize(
    ("type", "reason"),
    [
        (tarfile.SYMTYPE, "a link"),
        (tarfile.LNKTYPE, "a link"),
        (tarfile.CHRTYPE, "not a regular file"),
        (tarfile.BLKTYPE, "not a regular file"),
        (tarfile.FIFOTYPE, "not a regular file"),
    ],
)
def test_links_and_devices_in_a_tar_are_listed_and_not_read(tmp_path: Path, type: bytes, reason: str) -> None:
    opened = open_source(str(packed(tmp_path, ["A/1.png", special("A/2.png", type), "A/3.png"])))
    assert opened.sizes() == {"A/1.png": 7, "A/2.png": 0, "A/3.png": 7}
    assert opened.read("A/3.png") == b"A/3.png"
    with pytest.raises(OSError, match=reason):
        opened.read("A/2.png")


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_a_tar_that_is_cut_anywhere_is_refused(tree: Tree, tmp_path: Path, suffix: str) -> None:
    root = tree({f"A/{n}.png": bytes([n]) * 700 for n in range(4)})
    with tarfile.open(tmp_path / f"whole{suffix}", WAYS[suffix]) as archive:
        archive.add(root, ".")
    whole = (tmp_path / f"whole{suffix}").read_bytes()
    end = len(whole.rstrip(b"\0")) + 800 if suffix == ".tar" else len(whole)  # less than a block of zeros follows
    for length in [*range(1, 30), *range(30, end, max(1, end // 60)), *range(512, end, 512)]:
        path = tmp_path / f"{length}{suffix}"
        path.write_bytes(whole[:length])
        if length < 300 and suffix == ".tar":
            continue  # nothing says that it is a tar
        with pytest.raises(DataError, match=r"damaged or no tar|neither a folder"):
            open_source(str(path)).sizes()


@pytest.mark.parametrize("n_bytes", [4, 156, 257, 300])
def test_a_damaged_header_ends_no_listing_in_silence(tmp_path: Path, n_bytes: int) -> None:
    path = packed(tmp_path, ["A/1.png", "A/2.png", "A/3.png"])
    data = bytearray(path.read_bytes())
    data[2 * 1024 + n_bytes] ^= 0x55
    path.write_bytes(data)
    with pytest.raises(DataError, match="damaged or no tar"):
        open_source(str(path)).sizes()


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_two_tars_that_were_joined_are_refused(tmp_path: Path, suffix: str) -> None:
    first = packed(tmp_path, ["A/1.png"], f"x{suffix}").read_bytes()
    second = packed(tmp_path, ["A/2.png"], f"x{suffix}").read_bytes()
    (tmp_path / f"x{suffix}").write_bytes(first + second)
    with pytest.raises(DataError, match="goes on behind its end"):
        open_source(str(tmp_path / f"x{suffix}")).sizes()


def test_a_gzip_bomb_is_refused_before_it_is_unpacked_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_archive, "MAX_FREE_BYTES", 2**20)
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as archive:
        info = tarfile.TarInfo("A/1.png")
        info.size = 64 * 2**20
        archive.addfile(info, io.BytesIO(bytes(info.size)))
    with pytest.raises(DataError, match=r"unsafe: it unpacks to more than .* 100 times its own size"):
        open_source(str(tmp_path / "x.tar.gz")).sizes()
    assert zip_archive.MAX_RATIO == 100


def test_headers_that_ask_for_gigabytes_are_refused(tmp_path: Path) -> None:
    info = tarfile.TarInfo("././@LongLink")
    info.type = tarfile.GNUTYPE_LONGNAME
    info.size = 8 * 2**30 - 1
    (tmp_path / "x.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(10_240))
    with pytest.raises(DataError, match="more than 1,048,576 bytes of headers"):
        open_source(str(tmp_path / "x.tar")).sizes()


def test_headers_without_end_are_refused(tmp_path: Path) -> None:
    info = tarfile.TarInfo("././@LongLink")
    info.type = tarfile.GNUTYPE_LONGNAME
    (tmp_path / "x.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) * 5000)
    with pytest.raises(DataError, match="damaged or no tar"):
        open_source(str(tmp_path / "x.tar")).sizes()


def test_gzip_that_holds_no_tar_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.tar.gz").write_bytes(gzip.compress(b"notes" * 1000))
    with pytest.raises(DataError, match="damaged or no tar"):
        open_source(str(tmp_path / "x.tar.gz")).sizes()


def test_a_tar_that_ends_with_a_zip_is_no_zip(tmp_path: Path) -> None:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("B/9.png", b"9")
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        info = tarfile.TarInfo("A/x.zip")
        info.size = len(inner.getvalue())
        archive.addfile(info, io.BytesIO(inner.getvalue()))
    assert list(open_source(str(tmp_path / "x.tar")).sizes()) == ["A/x.zip"]


def test_a_changed_tar_is_looked_into_again(tmp_path: Path) -> None:
    assert list(open_source(str(packed(tmp_path, ["A/1.png"]))).sizes()) == ["A/1.png"]
    assert list(open_source(str(packed(tmp_path, ["A/1.png", "A/2.png"]))).sizes()) == ["A/1.png", "A/2.png"]


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
def test_a_folder_in_an_archive_is_a_data_set_of_its_own(tree: Tree, tmp_path: Path, suffix: str) -> None:
    root = tree({f"CellData/{name}": data for name, data in kermany().items()} | {"CellData/OCT/A/1.png": b"1"})
    path = tmp_path / f"x{suffix}"
    if suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for file in root.rglob("*.*"):
                archive.write(file, file.relative_to(root))
    else:
        with tarfile.open(path, "w:gz") as archive:
            archive.add(root, ".")
    part = open_source(f"{path}/CellData/chest_xray")
    folder = open_source(str(root / "CellData" / "chest_xray"))
    assert part.sizes() == folder.sizes()
    name = next(iter(part.sizes()))
    assert part.read(name) == folder.read(name)
    assert part.head(name, 3) == folder.head(name, 3)
    with pytest.raises(DataError, match="the archive has no folder 'CellData/X' with files"):
        open_source(f"{path}/CellData/X")
