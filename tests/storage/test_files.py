import errno
import os
import signal
import struct
from pathlib import Path

import pandas as pd
import pytest

from cxr.errors import ConfigError, DamagedError, FormatError, RunError
from cxr.storage import files
from tests.support.processes import lock_holder


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    target = tmp_path / "value.json"
    files.write_json(target, {"old": True})

    def stopped_half_way() -> None:
        with files.replacing(target) as temporary:
            temporary.write_text('{"half":')
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped_half_way()
    assert files.read_json(target) == {"old": True}
    assert list(tmp_path.iterdir()) == [target]


def test_a_lock_names_its_living_holder_and_dies_with_it(tmp_path: Path) -> None:
    lock = tmp_path / "run.lock"
    with lock_holder(lock, "run x") as holder:
        with pytest.raises(RunError, match=f"run x is in use by process {holder.pid} on"), files.locked(lock, "run x"):
            pass
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
    with files.locked(lock, "run x"):
        pass


def test_changed_bytes_of_a_table_and_half_a_json_file_are_reported(tmp_path: Path) -> None:
    table, facts = tmp_path / "table.parquet", tmp_path / "facts.json"
    files.write_table(table, pd.DataFrame({"value": [1.0]}))
    data = bytearray(table.read_bytes())
    data[data.index(struct.pack("<d", 1.0))] ^= 1
    table.write_bytes(data)
    facts.write_text('{"half":')
    with pytest.raises(DamagedError, match=r"table\.parquet' is damaged"):
        files.read_table(table)
    with pytest.raises(DamagedError, match=r"facts\.json' is damaged"):
        files.read_json(facts)


def test_what_another_version_wrote_is_refused(tmp_path: Path) -> None:
    record = tmp_path / "config.json"
    files.write_json(record, {"format": files.FORMAT, "name": "Röntgen"})
    assert files.read_record(record)["name"] == "Röntgen"
    for fields, found in (({"format": 2}, "format 2"), ({}, "no format number")):
        files.write_json(record, fields)
        with pytest.raises(FormatError, match=f"has {found}, this cxr reads format {files.FORMAT}"):
            files.read_record(record)


def test_a_line_that_cannot_be_appended_is_logged_and_lost(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files.append_line(tmp_path, "a folder is no file")
    assert "could not be appended to" in caplog.text


def test_a_url_that_was_not_opened_is_not_taken_for_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="needs a folder of files, got 's3://bucket/x'"):
        files.write_text(Path("s3://bucket/x"), "text")
    with pytest.raises(ConfigError, match="--cache needs a folder of files"):
        files.require_local("--cache", Path("s3://bucket/x"))
    assert list(tmp_path.iterdir()) == []


def test_a_file_on_this_machine_is_its_own_local_copy(tmp_path: Path) -> None:
    files.write_text(tmp_path / "weights", "text")
    with files.local_copy(tmp_path / "weights") as copy:
        assert copy == tmp_path / "weights"


def test_a_file_gets_another_name_or_a_copy_where_there_are_no_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "weights").write_bytes(b"numbers")
    files.link(tmp_path / "weights", tmp_path / "linked")
    assert (tmp_path / "linked").samefile(tmp_path / "weights")

    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    files.link(tmp_path / "weights", tmp_path / "copied")
    assert (tmp_path / "copied").read_bytes() == b"numbers"
    assert not (tmp_path / "copied").samefile(tmp_path / "weights")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copied", "linked", "weights"]


def test_a_folder_is_replaced_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "made" / "here"
    with files.replacing_folder(target) as folder:
        files.write_text(folder / "a.txt", "first")
        assert not target.exists()
    with pytest.raises(FileNotFoundError), files.replacing_folder(target) as folder:
        (folder / "b.txt").rename(folder / "c.txt")
    assert [path.name for path in target.parent.iterdir()] == ["here"]
    assert [path.read_text() for path in target.iterdir()] == ["first"]
    with files.replacing_folder(target) as folder:
        files.write_text(folder / "c.txt", "second")
    assert [(path.name, path.read_text()) for path in target.iterdir()] == [("c.txt", "second")]
    assert [path.name for path in target.parent.iterdir()] == ["here"]
