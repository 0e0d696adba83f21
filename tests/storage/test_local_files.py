import errno
import json
from pathlib import Path

import pytest

from cxr.errors import DiskFullError, RunError
from cxr.storage import local_files


def test_a_file_is_replaced_in_one_step_and_its_folder_is_made(tmp_path: Path) -> None:
    target = tmp_path / "a" / "b" / "file"
    for text in ("first", "second"):
        with local_files.replacing(target) as temporary:
            temporary.write_text(text)
            assert not target.exists() or target.read_text() == "first"
        assert target.read_text() == text
    assert list(target.parent.iterdir()) == [target]


def test_a_full_disk_is_an_error_of_its_own_and_the_old_file_stays(small_disk: Path) -> None:
    target = small_disk / "file"
    target.write_text("old")
    with pytest.raises(DiskFullError, match="no space is left to write"), local_files.replacing(target) as temporary:
        temporary.write_bytes(bytes(300 * 1024))
    assert target.read_text() == "old"
    assert list(small_disk.iterdir()) == [target]


def test_only_the_error_of_a_full_disk_is_translated() -> None:
    with pytest.raises(PermissionError), local_files.disk_full_as_error(Path("x")):
        raise PermissionError(errno.EACCES, "denied")
    with pytest.raises(DiskFullError), local_files.disk_full_as_error(Path("x")):
        raise OSError(errno.EDQUOT, "quota")


def test_sweeping_removes_temporary_files_at_any_depth_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    kept = [tmp_path / "file", tmp_path / "a" / "notes.tmp"]
    for path in [*kept, tmp_path / ".file.1.tmp", tmp_path / "a" / ".file.2.tmp"]:
        path.touch()
    local_files.sweep(tmp_path)
    assert [path for path in sorted(tmp_path.rglob("*")) if path.is_file()] == sorted(kept)


def test_a_line_after_one_that_was_cut_off_begins_a_line_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "new" / "events.jsonl"
    for line in ("1", "2"):
        local_files.append_line(file, line)
    assert file.read_bytes() == b"1\n2\n"
    file.write_bytes(b"1\n2")
    local_files.append_line(file, "3")
    assert file.read_bytes() == b"1\n2\n3\n"


def test_a_lock_names_its_holder_and_excludes_a_second_one(tmp_path: Path) -> None:
    lock, owner = tmp_path / "run.lock", {"pid": 7, "host": "here", "since": "noon"}
    with local_files.locked(lock, "run x", owner, patience_s=0):
        assert json.loads(lock.with_suffix(".json").read_text()) == owner
        with (
            pytest.raises(RunError, match="run x is in use by process 7 on here since noon"),
            local_files.locked(lock, "run x", owner, patience_s=0),
        ):
            pass
    with local_files.locked(lock, "run x", owner, patience_s=0):
        pass
