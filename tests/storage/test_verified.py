import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest

from cxr.errors import DamagedError, FormatError
from cxr.storage import files, verified


def damage(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def test_the_record_is_what_sha256sum_checks(tmp_path: Path) -> None:
    verified.write_json(tmp_path / "b.json", {"name": "Röntgen"})
    verified.write_text(tmp_path / "a.txt", "text")
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=tmp_path, check=True, capture_output=True)
    sums = (tmp_path / "SHA256SUMS").read_text()
    assert sums == "".join(
        f"{hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()}  {name}\n" for name in ("a.txt", "b.json")
    )


def test_every_changed_byte_of_a_table_is_noticed_its_footer_included(tmp_path: Path) -> None:
    table = tmp_path / "metrics.parquet"
    verified.write_table(table, pd.DataFrame({"value": [1.0]}))
    data = table.read_bytes()
    for at in range(len(data)):
        table.write_bytes(flipped(data, at))
        with pytest.raises(DamagedError, match=r"metrics\.parquet' was changed since cxr wrote it: put back a copy"):
            verified.read_table(table)
    table.write_bytes(data)
    assert verified.read_table(table)["value"].tolist() == [1.0]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda path: path.unlink(), "is missing"),
        (lambda path: damage(path, lambda data: data[: len(data) // 2]), "was changed since cxr wrote it"),
        (lambda path: damage(path, lambda _: b""), "is empty"),
        (lambda path: (path.unlink(), path.mkdir()), r"cannot be read \(Is a directory\)"),
        (lambda path: path.with_name("SHA256SUMS").unlink(), "is not verifiable, because SHA256SUMS beside it is mis"),
        (
            lambda path: damage(path.with_name("SHA256SUMS"), lambda data: data[:-1]),
            "is not verifiable, because SHA256SUMS beside it is damaged",
        ),
        (lambda path: damage(path.with_name("SHA256SUMS"), lambda _: b""), "is not in SHA256SUMS beside it"),
    ],
)
def test_a_damaged_file_is_named_with_what_is_wrong_and_how_it_is_made_again(
    tmp_path: Path, change: Callable[[Path], object], fault: str
) -> None:
    path = tmp_path / "first" / "metrics" / "summary.parquet"
    verified.write_table(path, pd.DataFrame({"value": [1.0]}))
    change(path)
    with pytest.raises(
        DamagedError, match=rf"^'.*summary\.parquet' {fault}[^\n]* or type `cxr evaluate first`, [^\n]*$"
    ):
        verified.read_table(path)


def test_a_file_of_another_run_is_noticed(tmp_path: Path) -> None:
    paths = [tmp_path / run / "metrics" / "summary.parquet" for run in ("first", "second")]
    for value, path in enumerate(paths):
        verified.write_table(path, pd.DataFrame({"value": [value]}))
    paths[0].write_bytes(paths[1].read_bytes())
    with pytest.raises(DamagedError, match="was changed since cxr wrote it"):
        verified.read_table(paths[0])


def test_a_file_that_was_deleted_is_still_expected_and_one_that_was_removed_is_not(tmp_path: Path) -> None:
    path = tmp_path / "stress.parquet"
    assert not verified.exists(path)
    verified.write_table(path, pd.DataFrame({"value": [1.0]}))
    path.unlink()
    assert verified.exists(path)
    verified.write_table(path, pd.DataFrame({"value": [2.0]}))
    verified.remove(path)
    assert not verified.exists(path)
    assert verified.recorded(tmp_path) == {}


def test_a_damaged_record_does_not_keep_a_file_from_being_made_again(tmp_path: Path) -> None:
    verified.write_text(tmp_path / "a.txt", "text")
    damage(tmp_path / "SHA256SUMS", lambda data: data[:-1])
    verified.write_text(tmp_path / "a.txt", "text")
    assert verified.read_bytes(tmp_path / "a.txt") == b"text"


KILLED = """
import os, signal, sys
from pathlib import Path
from cxr.storage import verified
file, n, act = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
seen = 0
def count(event, _):
    global seen
    if event in ("os.rename", "os.remove"):
        seen += 1
        if seen == n:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(count)
verified.write_text(file, "new") if act == "write" else verified.remove(file)
"""


@pytest.mark.parametrize(
    ("before", "act", "after"), [(None, "write", "new"), ("old", "write", "new"), ("old", "remove", None)]
)
def test_a_kill_before_any_step_leaves_the_file_as_it_was_or_as_it_shall_be(
    tmp_path: Path, before: str | None, act: str, after: str | None
) -> None:
    file = tmp_path / "complete.json"
    found = []
    for step in range(1, 20):
        verified.remove(file)
        if before:
            verified.write_text(file, before)
        command = [sys.executable, "-c", KILLED, str(file), str(step), act]
        code = subprocess.run(command, env=os.environ, check=False, timeout=120).returncode
        assert code in (0, -signal.SIGKILL)
        found.append(verified.read_bytes(file).decode() if verified.exists(file) else None)
        if code == 0:
            break
    assert (found[0], found[-1], set(found)) == (before, after, {before, after})
    assert len(found) >= 4
    assert list(verified.recorded(tmp_path)) == (["complete.json"] if after else [])


def test_a_reader_beside_a_writer_reads_what_was_written_and_never_complains(tmp_path: Path) -> None:
    file = tmp_path / "summary.parquet"
    verified.write_text(file, "0")
    done = threading.Event()

    def read() -> set[bytes]:
        found = set()
        while not done.is_set():
            found.add(verified.read_bytes(file))
        return found

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        for value in range(1, 150):
            verified.write_text(file, str(value))
        done.set()
        assert min(len(reader.result()) for reader in readers) > 5


def test_a_folder_that_was_filled_otherwise_is_recorded_as_it_is(tmp_path: Path) -> None:
    verified.write_text(tmp_path / "gone.txt", "text")
    (tmp_path / "gone.txt").unlink()
    (tmp_path / "weights.safetensors").write_bytes(b"weights")
    verified.record_all(tmp_path)
    assert verified.recorded(tmp_path) == {"weights.safetensors": (files.sha256_of(tmp_path / "weights.safetensors"),)}


@pytest.mark.parametrize(
    "name", ["metrics", "folds/fold=0", "external_tests/elsewhere", "learning_curve/share=0.5/fold=1"]
)
def test_a_folder_within_a_run_is_tied_to_the_run(tmp_path: Path, name: str) -> None:
    for run_id in ("one", "two"):
        verified.write_text(tmp_path / run_id / "run_id", f"{run_id}\n")
        verified.write_text(tmp_path / run_id / name / "table.txt", f"of {run_id}")
    own, foreign = (tmp_path / run_id / name for run_id in ("one", "two"))
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=own, check=True, capture_output=True)
    own.rename(tmp_path / "aside")
    foreign.rename(own)
    with pytest.raises(DamagedError, match=r"table\.txt' belongs to another run, as its whole folder does: put back"):
        verified.read_bytes(own / "table.txt")
    verified.write_text(own / "new.txt", "of one")
    assert verified.read_bytes(own / "new.txt") == b"of one"
    with pytest.raises(DamagedError, match=r"table\.txt' is not in SHA256SUMS beside it"):
        verified.read_bytes(own / "table.txt")


def test_a_run_may_be_renamed_but_not_lose_its_id(tmp_path: Path) -> None:
    verified.write_text(tmp_path / "run" / "run_id", "run\n")
    verified.write_text(tmp_path / "run" / "metrics" / "table.txt", "values")
    renamed = (tmp_path / "run").rename(tmp_path / "renamed")
    assert verified.read_bytes(renamed / "metrics" / "table.txt") == b"values"
    (renamed / "run_id").unlink()
    with pytest.raises(DamagedError, match=r"renamed/run_id' is missing: put back a copy, or delete it if it is there"):
        verified.read_bytes(renamed / "metrics" / "table.txt")


@pytest.mark.parametrize(("record", "found"), [({"format": 2}, "format 2"), ({"run_id": "a"}, "no format number")])
def test_a_record_of_a_version_that_kept_no_hashes_is_said_to_be_of_another_version(
    tmp_path: Path, record: dict, found: str
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(record))
    with pytest.raises(FormatError, match=f"has {found}, this cxr reads format"):
        verified.read_record(tmp_path / "config.json")


@pytest.mark.parametrize("text", [f'{{"format": {files.READ_FORMATS[0]}}}', "not JSON"])
def test_a_record_without_hashes_that_may_be_of_this_version_is_not_verifiable(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(DamagedError, match="is not verifiable, because SHA256SUMS beside it is missing"):
        verified.read_record(tmp_path / "config.json")
