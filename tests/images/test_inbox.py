import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cxr.errors import DataError, UnreadableError
from cxr.images import inbox as inbox_module
from cxr.images.inbox import LOOSE, Arrival, Batch, batch_names, list_batch, read_arrival
from cxr.images.source import MAX_IMAGE_BYTES

Tree = Callable[[dict[str, bytes]], Path]


def listed(inbox: Path, name: str = "ward", settle_s: float = 0) -> Batch:
    return list_batch(inbox, name, batch_names(inbox)[name], settle_s)


def only(inbox: Path) -> Arrival:
    (arrival,) = listed(inbox).arrivals
    return arrival


def bytes_or_reason(arrival: Arrival) -> bytes | str:
    """What reading a file gives: its bytes, or the reason why not."""
    try:
        return read_arrival(arrival)
    except UnreadableError as error:
        return error.reason


def contents(batch: Batch) -> dict[str, bytes | str]:
    return {arrival.path: bytes_or_reason(arrival) for arrival in batch.arrivals}


def reasons_under(modes: dict[str, int], inbox: Path) -> dict[str, str]:
    """The reasons, or `read`, that an unprivileged process finds for the files of the batch `ward`."""
    prefix = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    if prefix and shutil.which("setpriv") is None:
        pytest.skip("root reads every file, and setpriv, which takes that away, is not here")
    code = (
        "import json, sys; from pathlib import Path; from tests.images.test_inbox import contents, listed\n"
        "found = contents(listed(Path(sys.argv[1])))\n"
        "print(json.dumps({path: 'read' if isinstance(data, bytes) else data for path, data in found.items()}))"
    )
    for name, mode in modes.items():
        (inbox / name).chmod(mode)
    try:
        words = [*prefix, sys.executable, "-c", code, str(inbox)]
        return json.loads(subprocess.run(words, check=True, timeout=60, stdout=subprocess.PIPE, text=True).stdout)
    finally:
        for name in modes:
            (inbox / name).chmod(0o755)


def test_each_folder_is_a_batch_and_loose_files_are_the_batch_dot(tree: Tree) -> None:
    inbox = tree({"monday/1.png": b"1", "x.jpeg/2.png": b"2", "3.png": b"3"})
    assert batch_names(inbox) == {
        ".": str(inbox),
        "monday": str(inbox / "monday"),
        "x.jpeg": str(inbox / "x.jpeg"),
    }
    assert contents(listed(inbox, LOOSE)) == {"3.png": b"3"}
    assert contents(listed(inbox, "x.jpeg")) == {"2.png": b"2"}


def test_without_loose_files_there_is_no_batch_of_them(tree: Tree, tmp_path: Path) -> None:
    assert batch_names(tmp_path) == {}
    assert list(batch_names(tree({"monday/1.png": b"1"}))) == ["monday"]


@pytest.mark.parametrize("what", ["nowhere", "file"])
def test_an_inbox_that_cannot_be_listed_is_an_error(tmp_path: Path, what: str) -> None:
    (tmp_path / "file").write_bytes(b"1")
    with pytest.raises(DataError, match=f"the inbox '.*{what}' cannot be listed .*: give a folder"):
        batch_names(tmp_path / what)


def test_folders_whose_names_print_alike_are_two_batches(tmp_path: Path) -> None:
    for number, name in enumerate((b"caf\xe9", rb"caf\xe9")):
        folder = os.fsencode(tmp_path) + b"/" + name
        os.mkdir(folder)  # noqa: PTH102 bytes are no Path
        (Path(os.fsdecode(folder)) / "1.png").write_bytes(b"%d" % number)
    read = [contents(listed(tmp_path, name))["1.png"] for name in batch_names(tmp_path)]
    assert sorted(map(str, read)) == ["b'0'", "b'1'"]


def test_everything_below_a_batchs_folder_belongs_to_it(tree: Tree) -> None:
    files = {"1.png": b"1", "a/2.png": b"2", "a/b/c/3.dcm": b"3", "a/x.jpeg/4.jpeg": b"4", "notes.txt": b"5", "6": b""}
    inbox = tree({f"ward/{name}": data for name, data in files.items()} | {"7.png": b"7", "other/8.png": b"8"})
    batch = listed(inbox)
    assert contents(batch) == files
    assert [arrival.path for arrival in batch.arrivals] == sorted(files)
    assert [arrival.n_bytes for arrival in batch.arrivals] == [len(files[path]) for path in sorted(files)]
    assert (batch.name, batch.n_waiting, batch.left_aside) == ("ward", 0, {})


def test_an_inbox_behind_a_link_is_listed_like_any_folder(tree: Tree, tmp_path: Path) -> None:
    inbox = tree({"ward/1.png": b"1"})
    (inbox / "ward" / "2.png").symlink_to("1.png")
    (tmp_path / "inbox").symlink_to(inbox)
    assert contents(listed(tmp_path / "inbox")) == {"1.png": b"1", "2.png": b"1"}


def test_a_file_that_has_just_arrived_waits_even_if_its_content_is_old(tree: Tree) -> None:
    inbox = tree({"ward/copied.png": b"1", "ward/a/made.png": b"2", "ward/.DS_Store": b"-"})
    os.utime(inbox / "ward" / "copied.png", (0, 0))
    waiting, settled = listed(inbox, settle_s=3600), listed(inbox, settle_s=0)
    assert (waiting.arrivals, waiting.n_waiting, waiting.left_aside) == ([], 2, {"folder settings": 1})
    assert (len(settled.arrivals), settled.n_waiting) == (2, 0)


def test_a_file_whose_content_has_just_changed_waits_and_one_from_the_future_does_not(tree: Tree) -> None:
    inbox = tree({"ward/old.png": b"1", "ward/new.png": b"2", "ward/future.png": b"3"})
    for name, ahead_s in {"old": -9e3, "new": 1.3, "future": 9e8}.items():
        os.utime(inbox / "ward" / f"{name}.png", (time.time() + ahead_s,) * 2)
    time.sleep(1)  # the time of the last change of any kind, which cannot be set, is older than 0.6 s now
    batch = listed(inbox, settle_s=0.6)
    assert ([arrival.path for arrival in batch.arrivals], batch.n_waiting) == (["future.png", "old.png"], 1)


def test_a_link_waits_as_long_as_its_target(tree: Tree) -> None:
    inbox = tree({"other/1.png": b"1", "ward/2.png": b"2"})
    (inbox / "ward" / "1.png").symlink_to(inbox / "other" / "1.png")
    time.sleep(0.8)
    (inbox / "other" / "1.png").write_bytes(b"half of")
    os.utime(inbox / "other" / "1.png", (time.time() + 0.5,) * 2)
    batch = listed(inbox, settle_s=0.6)
    assert ([arrival.path for arrival in batch.arrivals], batch.n_waiting) == (["2.png"], 1)


@pytest.mark.parametrize(
    "name",
    [
        b"a\nb.png",
        b"'\"`$(id);.png",
        b"<img src=x onerror=alert(1)>.png",
        b"caf\xe9.png",
        b"x" * 246 + b".png",
        "Röntgen 胸片 ☢️.png".encode(),
        b"-rf",
        b"%2e%2e.png",
        b" ",
        b"...",
    ],
)
def test_a_file_is_listed_and_read_whatever_its_name(tree: Tree, name: bytes) -> None:
    inbox = tree({"ward/a/0.png": b"0"})
    with open(os.fsencode(inbox) + b"/ward/a/" + name, "wb") as file:  # noqa: PTH123 bytes are no Path
        file.write(b"1")
    printed = name.decode("utf-8", "backslashreplace")
    assert contents(listed(inbox)) == {"a/0.png": b"0", f"a/{printed}": b"1"}


def test_links_are_followed_to_files_inside_the_inbox_and_nowhere_else(tree: Tree, tmp_path: Path) -> None:
    inbox = tree({"ward/1.png": b"1", "other/2.png": b"22"})
    beside = tmp_path / "images2"  # begins like the inbox
    beside.mkdir()
    (beside / "secret.png").write_bytes(b"secret")
    links = {
        "same": "1.png",
        "other": "../other/2.png",
        "twice": "same",
        "absolute": str(inbox / "other" / "2.png"),
        "out": "../../images2/secret.png",
        "out_twice": "out",
        "out_folder": str(beside),
        "null": "/dev/null",
        "loop": "loop",
        "gone": "nowhere.png",
        "folder": "../other",
        "up": "..",
    }
    for name, target in links.items():
        (inbox / "ward" / name).symlink_to(target)
    assert contents(listed(inbox)) == {
        "1.png": b"1",
        "same": b"1",
        "other": b"22",
        "twice": b"1",
        "absolute": b"22",
        "out": "link_leaves_inbox",
        "out_twice": "link_leaves_inbox",
        "out_folder": "link_leaves_inbox",
        "null": "link_leaves_inbox",
        "loop": "broken_link",
        "gone": "broken_link",
        "folder": "link_to_folder",
        "up": "link_to_folder",
    }


def test_a_link_in_the_inbox_is_a_loose_file_and_not_a_batch(tree: Tree, tmp_path: Path) -> None:
    inbox = tree({"ward/1.png": b"1"})
    (inbox / "again").symlink_to("ward")
    (inbox / "out").symlink_to(tmp_path)
    assert list(batch_names(inbox)) == [".", "ward"]
    assert contents(listed(inbox, LOOSE)) == {"again": "link_to_folder", "out": "link_leaves_inbox"}


def test_a_pipe_and_a_giant_file_are_refused_without_being_opened(tree: Tree) -> None:
    inbox = tree({"ward/1.png": b"1", "ward/giant.png": b"", "ward/large.png": b""})
    os.mkfifo(inbox / "ward" / "pipe.png")
    (inbox / "ward" / "to_pipe.png").symlink_to("pipe.png")
    os.truncate(inbox / "ward" / "giant.png", MAX_IMAGE_BYTES + 1)
    os.truncate(inbox / "ward" / "large.png", MAX_IMAGE_BYTES)
    batch = listed(inbox)
    assert {arrival.path: arrival.refused and arrival.refused.reason for arrival in batch.arrivals} == {
        "1.png": None,
        "large.png": None,
        "giant.png": "too_large",
        "pipe.png": "not_a_file",
        "to_pipe.png": "not_a_file",
    }


def test_files_that_finder_and_windows_leave_are_counted_and_are_no_images(tree: Tree) -> None:
    litter = [".DS_Store", "a/.DS_Store", "Thumbs.db", "desktop.ini", "._1.png", "a/._x", "__MACOSX/a/2.png"]
    batch = listed(tree({f"ward/{name}": b"-" for name in litter} | {"ward/1.png": b"1", "ward/.hidden": b"2"}))
    assert contents(batch) == {"1.png": b"1", ".hidden": b"2"}
    assert batch.left_aside == {"folder settings": 4, "macOS copy": 3}


def test_thumbnails_and_older_copies_that_systems_keep_are_no_images(tree: Tree) -> None:
    names = ["ward/@eaDir/1.png/SYNOPHOTO_THUMB_XL.jpg", "ward/.thumbnails/1.png", "#recycle/1.png"]
    inbox = tree(dict.fromkeys(names, b"-") | {"ward/1.png": b"1"})
    batches = {name: listed(inbox, name) for name in batch_names(inbox)}
    assert {name: [arrival.path for arrival in batch.arrivals] for name, batch in batches.items()} == {
        "#recycle": [],
        "ward": ["1.png"],
    }
    assert {name: batch.left_aside for name, batch in batches.items()} == {
        "#recycle": {"system folder": 1},
        "ward": {"system folder": 2},
    }


def test_files_and_folders_that_may_not_be_read_are_named(tree: Tree) -> None:
    inbox = tree({"ward/1.png": b"1", "ward/locked.png": b"2", "ward/locked/3.png": b"3"})
    reasons = reasons_under({"ward/locked.png": 0, "ward/locked": 0}, inbox)
    assert reasons == {"1.png": "read", "locked.png": "permission_denied", "locked": "permission_denied"}


def test_a_batchs_folder_that_may_not_be_read_is_named(tree: Tree) -> None:
    assert reasons_under({"ward": 0}, tree({"ward/1.png": b"1"})) == {".": "permission_denied"}


def test_files_in_a_folder_that_may_be_listed_but_not_entered_are_named(tree: Tree) -> None:
    inbox = tree({"ward/1.png": b"1", "ward/shut/2.png": b"2"})
    assert reasons_under({"ward/shut": 0o444}, inbox) == {"1.png": "read", "shut/2.png": "permission_denied"}


def test_a_folder_that_was_removed_in_the_meantime_is_not_reported_as_forbidden(tree: Tree) -> None:
    inbox = tree({"ward/1.png": b"1"})
    folder = batch_names(inbox)["ward"]
    shutil.rmtree(folder)
    assert "permission_denied" not in contents(list_batch(inbox, "ward", folder, 0)).values()


def grow(image: Path) -> None:
    image.write_bytes(b"whole")


def rewrite(image: Path) -> None:
    image.write_bytes(b"HALF")
    os.utime(image, (1, 1))


@pytest.mark.parametrize("change", [grow, rewrite, Path.unlink])
def test_a_file_that_changes_between_listing_and_reading_is_not_read(tree: Tree, change: Callable) -> None:
    inbox = tree({"ward/1.png": b"half"})
    arrival = only(inbox)
    assert bytes_or_reason(arrival) == b"half"
    change(inbox / "ward" / "1.png")
    assert bytes_or_reason(arrival) == "changed_while_read"


def replace_in_place(image: Path) -> None:
    """Write other bytes over a file as `cp -p` does: its size and the time of its content stay."""
    facts = image.stat()
    image.write_bytes(b"HALF")
    os.utime(image, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def put_another_in_its_place(image: Path) -> None:
    facts = image.stat()
    other = image.with_name("other")
    other.write_bytes(b"HALF")
    os.utime(other, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    other.replace(image)


@pytest.mark.parametrize("change", [replace_in_place, put_another_in_its_place])
def test_a_file_that_is_replaced_with_its_size_and_time_kept_has_another_signature_and_is_not_read(
    tree: Tree, change: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox_module, "TIME_STEP_S", 0.05)
    inbox = tree({"ward/1.png": b"half"})
    time.sleep(0.1)
    before = only(inbox)
    assert only(inbox).signature == before.signature is not None
    change(inbox / "ward" / "1.png")
    assert bytes_or_reason(before) == "changed_while_read"
    time.sleep(0.1)
    after = only(inbox)
    assert (after.n_bytes, after.changed_ns) == (before.n_bytes, before.changed_ns)
    assert after.signature != before.signature


def test_a_file_that_changed_within_a_step_of_a_coarse_clock_has_no_signature(tree: Tree) -> None:
    inbox = tree({"ward/1.png": b"half"})
    os.utime(inbox / "ward" / "1.png", (1, 1))
    assert only(inbox).signature is None
    assert bytes_or_reason(only(inbox)) == b"half"


def test_a_link_or_pipe_that_replaces_a_file_is_neither_followed_nor_waited_for(tree: Tree) -> None:
    inbox = tree({"ward/1.png": b"half", "2.png": b"half"})
    image = inbox / "ward" / "1.png"
    arrival = only(inbox)
    os.utime(inbox / "2.png", ns=(arrival.changed_ns, arrival.changed_ns))
    image.unlink()
    image.symlink_to("../2.png")
    assert isinstance(bytes_or_reason(arrival), str)
    image.unlink()
    os.mkfifo(image)
    assert bytes_or_reason(arrival) == "not_a_file"


def test_a_folder_that_replaces_a_file_is_refused_and_leaves_nothing_open(tree: Tree) -> None:
    inbox = tree({"ward/1.png": b"1"})
    arrival = only(inbox)
    (inbox / "ward" / "1.png").unlink()
    (inbox / "ward" / "1.png").mkdir()
    n_open = len(os.listdir("/dev/fd"))  # noqa: PTH208 counted, not walked
    assert isinstance(bytes_or_reason(arrival), str)
    assert len(os.listdir("/dev/fd")) == n_open  # noqa: PTH208


def test_nothing_in_the_inbox_is_changed_by_listing_and_reading(tree: Tree) -> None:
    inbox = tree({"ward/a/1.png": b"1", "ward/.DS_Store": b"2", "ward/2.png": b"", "3.png": b"3", "other/x": b"4"})
    (inbox / "ward" / "link").symlink_to("a/1.png")
    (inbox / "ward" / "gone").symlink_to("nowhere")
    os.mkfifo(inbox / "pipe")

    def snapshot() -> dict[str, tuple[int, ...]]:
        facts = {str(path): path.lstat() for path in [inbox, *sorted(inbox.rglob("*"))]}
        return {p: (f.st_ino, f.st_mode, f.st_nlink, f.st_size, f.st_mtime_ns, f.st_ctime_ns) for p, f in facts.items()}

    before = snapshot()
    assert sum(len(contents(listed(inbox, name))) for name in batch_names(inbox)) == 7
    assert snapshot() == before
