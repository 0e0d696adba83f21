"""What the operating system refuses: asked of it where it can be, and made up where that takes a broken disk."""

import errno
import os
import resource
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cxr.cli import system_errors
from tests.support.disks import disk_of
from tests.support.processes import PROJECT


def refused(act: Callable[[], object]) -> OSError:
    with pytest.raises(OSError) as raised:
        act()
    return raised.value


def test_what_the_system_refuses_names_the_file_the_cause_and_the_way_out(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    circle = tmp_path / "circle"
    circle.symlink_to(circle)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "socket"))
    long = tmp_path / ("x" * 300)
    again = "then type the same command again."
    cases = {
        tmp_path.read_bytes: f"{str(tmp_path)!r} cannot be used (Is a directory): a folder is in the place of a file: "
        f"move it away, {again}",
        (file / "below").read_bytes: f"{str(file / 'below')!r} cannot be used (Not a directory): a file is in the "
        f"place of a folder: move it away, {again}",
        long.read_bytes: f"{str(long)!r} cannot be used (File name too long): choose a shorter name, or a folder "
        f"nearer to the root, {again}",
        circle.read_bytes: f"{str(circle)!r} cannot be used (Too many levels of symbolic links): its links lead in a "
        f"circle: mend them, {again}",
        (tmp_path / "nowhere").read_bytes: f"{str(tmp_path / 'nowhere')!r} cannot be used (No such file or "
        f"directory): put it back, or name one that exists, {again}",
        file.mkdir: f"{str(file)!r} cannot be used (File exists): move it away, or choose another name, {again}",
        (tmp_path / "socket").read_bytes: f"{str(tmp_path / 'socket')!r} cannot be used (No such device or address): "
        f"connect the disk or the share again, or name a regular file, {again}",
        lambda: file.rename(tmp_path / "socket" / "below"): f"{str(file)!r} or {str(tmp_path / 'socket' / 'below')!r} "
        f"cannot be used (Not a directory): a file is in the place of a folder: move it away, {again}",
    }
    try:
        for act, sentence in cases.items():
            error = refused(act)
            assert system_errors.is_explained(error)
            assert system_errors.explain(error) == sentence
    finally:
        listener.close()


@pytest.mark.parametrize("number", sorted(system_errors.WAYS_OUT), ids=errno.errorcode.__getitem__)
def test_every_known_error_is_one_sentence_with_the_systems_own_words(number: int) -> None:
    error = OSError(number, os.strerror(number), "scores/a\nb")
    sentence = system_errors.explain(error)
    assert sentence.startswith(f"'scores/a\\nb' cannot be used ({os.strerror(number)}): ")
    assert sentence.endswith(", then type the same command again.")
    assert sentence.count(". ") == 0


@pytest.mark.parametrize(
    ("error", "start"),
    [
        (PermissionError("Access Denied"), "the system refuses a file (Access Denied): give this user the permission"),
        (FileNotFoundError("bucket/key"), "the system refuses a file (bucket/key): put it back"),
        (OSError(errno.ENOSPC, "full"), "no space is left on the disk ([Errno 28] full): free some."),
        (OSError(errno.EIO, "broken", b"caf\xe9.png"), "'caf\\udce9.png' cannot be used (broken): check the disk"),
    ],
)
def test_an_error_without_a_number_or_a_file_is_explained_too(error: OSError, start: str) -> None:
    assert system_errors.is_explained(error)
    assert system_errors.explain(error).startswith(start)


@pytest.mark.parametrize(
    "error",
    [
        OSError("without a number"),
        OSError(errno.EBADF, "bad"),
        OSError(errno.EINVAL, "bad"),
        ssl.SSLError(1, "expired"),
    ],
    ids=["no number", "bad descriptor", "bad argument", "another library's number"],
)
def test_an_error_that_may_be_this_programs_mistake_is_not_explained(error: OSError) -> None:
    assert not system_errors.is_explained(error)


def limited(kind: int, most: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(kind, (most, most))


def run(*words: str, limit: Callable[[], None] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        cwd=PROJECT,
        preexec_fn=limit,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_a_verb_on_a_disk_that_is_read_only_ends_with_a_sentence(tmp_path: Path) -> None:
    with disk_of("1m", tmp_path / "disk") as disk:
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        ended = run("-m", "cxr", "sample", str(disk / "images"), "--images", "40")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith(f"error: '{tmp_path}/disk/")
    assert "cannot be used (Read-only file system): choose a folder on a disk that can be written, then" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_a_verb_whose_files_may_not_grow_ends_with_a_sentence(tmp_path: Path) -> None:
    limit = limited(resource.RLIMIT_FSIZE, 1000)
    ended = run("-m", "cxr", "sample", str(tmp_path / "images"), "--images", "40", limit=limit)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "(File too large): let files grow larger (`ulimit -f`), or choose another disk, then" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_a_process_that_may_open_no_more_files_still_says_so() -> None:
    code = (
        "from cxr.cli.terminal import run_command\n"
        "run_command(lambda: [open('/dev/null') for _ in range(1000)])\n"  # which stay open
    )
    ended = run("-c", code, limit=limited(resource.RLIMIT_NOFILE, 64))
    assert ended.stderr == (
        "error: '/dev/null' cannot be used (Too many open files): let a process open more files (`ulimit -n`), then "
        "type the same command again.\n"
    )
    assert ended.returncode == 2
