"""Pushing to a folder: whole or not there, once, and never over another package."""

from pathlib import Path

import pytest

from cxr.errors import PackageError
from cxr.serving.package import load_package
from cxr.sharing.place import open_place
from cxr.sharing.pull import pull
from cxr.sharing.push import push
from cxr.storage.model_folder import ModelFolder, PackageFolder
from tests.support.faults import dies_at
from tests.support.packages import light_package


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def push_to(address: str, folder: PackageFolder) -> bool:
    return push(load_package(folder), open_place(address, "DESTINATION"))


def test_a_pushed_version_has_every_byte_of_the_one_here(light: PackageFolder, tmp_path: Path) -> None:
    assert push_to(str(tmp_path / "share"), light)
    assert contents(tmp_path / "share" / "tiny" / "1") == contents(light.path)
    assert not any(path.samefile(light.path / path.name) for path in (tmp_path / "share" / "tiny" / "1").iterdir())


def test_the_same_package_is_there_already_and_nothing_is_written(light: PackageFolder, tmp_path: Path) -> None:
    push_to(str(tmp_path / "share"), light)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "share" / "tiny" / "1").iterdir()}
    assert not push_to(str(tmp_path / "share"), light)
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_another_package_of_that_name_and_version_is_never_overwritten(light: PackageFolder, tmp_path: Path) -> None:
    push_to(str(tmp_path / "share"), light)
    before = contents(tmp_path / "share" / "tiny" / "1")
    other = light_package(light, tmp_path / "others", operating_point="balanced")
    with pytest.raises(PackageError, match="has another package as version 1 of 'tiny', which is never overwritten"):
        push_to(str(tmp_path / "share"), other)
    assert contents(tmp_path / "share" / "tiny" / "1") == before


def test_a_version_that_was_damaged_where_it_lies_is_not_taken_for_whole(light: PackageFolder, tmp_path: Path) -> None:
    push_to(str(tmp_path / "share"), light)
    (tmp_path / "share" / "tiny" / "1" / "shared.safetensors").unlink()
    with pytest.raises(PackageError, match=r"is damaged: its files are not those that were pushed\. Remove its folder"):
        push_to(str(tmp_path / "share"), light)


def test_what_an_older_push_left_is_cleared_and_what_is_nobodys_is_kept(light: PackageFolder, tmp_path: Path) -> None:
    there = tmp_path / "share" / "tiny" / "1"
    there.mkdir(parents=True)
    (there / "model.onnx").write_bytes(b"of a push that was killed")
    assert push_to(str(tmp_path / "share"), light)
    assert contents(there) == contents(light.path)
    (tmp_path / "notes" / "tiny" / "1").mkdir(parents=True)
    (tmp_path / "notes" / "tiny" / "1" / "notes.txt").write_text("mine")
    with pytest.raises(PackageError, match=r"'notes.txt' in tiny/1 of .* is of no package"):
        push_to(str(tmp_path / "notes"), light)
    assert contents(tmp_path / "notes" / "tiny" / "1") == {"notes.txt": b"mine"}


@pytest.mark.faults
def test_a_push_that_is_killed_at_any_step_leaves_no_package_or_the_whole(
    light: PackageFolder, here: ModelFolder, tmp_path: Path
) -> None:
    outcomes = set()
    for step in range(1, 100):
        share = tmp_path / f"share-{step}"
        died = dies_at(step, share, push_to, str(share), light)
        place = open_place(str(share), "SOURCE")
        outcomes.add(tuple(place.versions("tiny")))
        if not place.versions("tiny"):
            with pytest.raises(PackageError, match="no package of 'tiny'"):
                pull(place, here, None)
        push_to(str(share), light)
        assert contents(share / "tiny" / "1") == contents(light.path)
        if not died:
            break
    assert not died
    assert outcomes == {(), ("1",)}
