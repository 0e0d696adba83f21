"""Pulling from a folder: every byte is held against its hash, and nothing else gets in."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cxr.errors import DiskFullError, PackageError
from cxr.serving import registry
from cxr.serving.package import load_package
from cxr.sharing.place import open_place
from cxr.sharing.pull import pull
from cxr.sharing.push import push
from cxr.storage.model_folder import ModelFolder, PackageFolder
from tests.support.faults import dies_at
from tests.support.packages import light_package, replace, sign


@pytest.fixture
def share(light: PackageFolder, tmp_path: Path) -> Path:
    """A folder that version 1 of `tiny` was pushed to."""
    push(load_package(light), open_place(str(tmp_path / "share"), "DESTINATION"))
    return tmp_path / "share"


def pull_from(share: Path, model: ModelFolder, version: str | None = None) -> PackageFolder:
    return pull(open_place(str(share), "SOURCE"), model, version)


def assert_nothing_is_left(model: ModelFolder) -> None:
    paths = [path for path in model.path.parent.rglob("*") if ".locks" not in path.parts]
    assert [path for path in paths if path != model.path] == []


def test_a_pulled_version_is_the_next_and_says_where_it_comes_from(share: Path, here: ModelFolder) -> None:
    light_package(PackageFolder(share / "tiny" / "1"), here.path.parent, operating_point="half")
    pulled = load_package(pull_from(share, here))
    there = load_package(PackageFolder(share / "tiny" / "1"))
    assert pulled.version == "2"
    assert pulled.facts["pulled"] | {"at": ""} == {
        "from": str(share),
        "version": "1",
        "sha256sums": there.file_hash,
        "at": "",
    }
    own = {"version", "pulled"}
    assert {k: v for k, v in pulled.facts.items() if k not in own} == {
        k: v for k, v in there.facts.items() if k not in own
    }
    for path in there.folder.path.iterdir():
        if path.name not in ("package.json", "README.md", "SHA256SUMS"):
            assert (pulled.folder.path / path.name).read_bytes() == path.read_bytes()
    card = pulled.folder.card.read_text()
    assert "# tiny, version 2" in card
    assert "where it is version 1" in card


def test_a_pulled_version_is_no_champion(share: Path, here: ModelFolder) -> None:
    version = pull_from(share, here).version
    assert registry.champion_version(here) is None
    registry.promote(here, version)
    light_package(PackageFolder(share / "tiny" / "1"), share, "2", operating_point="half")
    assert pull_from(share, here).version == "2"
    assert registry.champion_version(here) == "1"


def test_the_highest_version_there_is_pulled_unless_another_is_named(share: Path, here: ModelFolder) -> None:
    light_package(PackageFolder(share / "tiny" / "1"), share, "10", operating_point="half")
    assert load_package(pull_from(share, here)).operating_point == "half"
    assert load_package(pull_from(share, here, "1")).operating_point == "youden"
    with pytest.raises(PackageError, match=r"has no version '\.\./2' of 'tiny'; it has 1, 10"):
        pull_from(share, here, "../2")


def test_the_same_content_is_taken_up_once(share: Path, light: PackageFolder, here: ModelFolder) -> None:
    first = pull_from(share, here)
    assert pull_from(share, here) == first
    assert here.versions() == ["1"]
    home = ModelFolder(light.path.parent)
    assert pull_from(share, home) == light, "it is the version that was pushed"
    assert home.versions() == ["1"]


def test_what_has_the_same_identity_and_another_content_is_another_version(share: Path, here: ModelFolder) -> None:
    pull_from(share, here)
    facts = load_package(PackageFolder(share / "tiny" / "1")).facts
    thresholds = facts["thresholds"] | {"youden": 0.25}
    other = light_package(PackageFolder(share / "tiny" / "1"), share, "2", thresholds=thresholds)
    assert load_package(other).facts["identity"] == facts["identity"]
    assert load_package(pull_from(share, here)).threshold == 0.25


def changed(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    replace(path, bytes(data))


def linked(there: Path) -> None:
    (there / "images.parquet").rename(there.parents[1] / "elsewhere.parquet")
    (there / "images.parquet").symlink_to(there.parents[1] / "elsewhere.parquet")


def leads_out(there: Path) -> None:
    sums = (there / "SHA256SUMS").read_text()
    replace(there / "SHA256SUMS", sums.replace("  images.parquet", "  ../../2/images.parquet").encode())


def signed_code(there: Path) -> None:
    (there / "hook.py").write_text("print()")
    sign(PackageFolder(there))


def signed(there: Path, **facts: object) -> None:
    described = json.loads((there / "package.json").read_text()) | facts
    replace(there / "package.json", json.dumps(described).encode())
    sign(PackageFolder(there))


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a byte of the weights": (lambda there: changed(there / "fold-0.safetensors"), "'fold-0.safetensors' was changed"),
    "a byte of package.json": (lambda there: changed(there / "package.json"), "'package.json' was changed"),
    "a byte of the sums": (lambda there: changed(there / "SHA256SUMS"), "was changed|was added|is missing"),
    "a file is missing": (lambda there: (there / "images.parquet").unlink(), "'images.parquet' is missing"),
    "a file was added": (lambda there: (there / "more.json").write_text("{}"), "'more.json' was added"),
    "code": (lambda there: (there / "model.py").write_text("print()"), "'model.py' is no file that a package holds"),
    "a folder": (lambda there: (there / "more").mkdir(), "'more' is no file that a package holds"),
    "a link": (linked, "'images.parquet' is no file that a package holds"),
    "a pipe": (lambda there: os.mkfifo(there / "pipe.json"), "'pipe.json' is no file that a package holds"),
    "a path that leads out": (leads_out, "'../../2/images.parquet' is missing|was changed"),
    "sums without end": (lambda there: replace(there / "SHA256SUMS", b"0" * 2_000_000), "more than any package"),
    "code that was signed": (signed_code, "'hook.py' is no file that a package holds"),
    "nonsense that was signed": (lambda there: signed(there, size=-1), "size is out of range"),
    "another's name": (lambda there: signed(there, name="other"), "is version 1 of 'other', and keeps that name"),
    "no identity": (lambda there: signed(there, hashes={}), "makes no model card"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_damaged_or_strange_is_refused_and_leaves_nothing(damage: str, share: Path, here: ModelFolder) -> None:
    spoil, sentence = DAMAGE[damage]
    spoil(share / "tiny" / "1")
    with pytest.raises(PackageError, match=sentence) as error:
        pull_from(share, here)
    assert len(str(error.value).splitlines()) == 1
    assert_nothing_is_left(here)


def test_what_is_not_there_is_said_in_a_sentence(share: Path, here: ModelFolder, tmp_path: Path) -> None:
    with pytest.raises(PackageError, match=r"no package of 'tiny' in '.*nowhere': `cxr package push` puts one there"):
        pull_from(tmp_path / "nowhere", here)
    assert not here.path.parent.exists(), "and nothing is made here"
    assert not (tmp_path / "nowhere").exists()


def test_a_disk_that_is_too_small_is_known_before_anything_is_copied(
    share: Path, small_disk: Path, light: PackageFolder
) -> None:
    large = PackageFolder(share / "tiny" / "1")
    replace(large.shared_weights, bytes(400_000))
    sign(large)
    with pytest.raises(DiskFullError, match=r"the package has \d MB, and '.*' has space for 0: free some"):
        pull_from(share, ModelFolder.named(small_disk / "models", "tiny"))


def recalibrated(original: PackageFolder, models: Path, start_hash: str) -> PackageFolder:
    """Version 2, which says of itself that it was recalibrated from version 1."""
    facts = load_package(original).facts
    origin = facts["thresholds_from"] | {"source": "labelled_images", "version": "1", "n_images": {"NORMAL": 9}}
    origin |= {"package": start_hash}
    extra = {"n_patients": 9, "at": "2026-01-01", "method": "of the test", "left_out": {}, "labels": "0"}
    errors = {when: {"log_loss": 0.1, "brier": 0.1} for when in ("before", "after")}
    described = origin | extra | {"errors": errors, "operating_points": []}
    return light_package(original, models, "2", thresholds_from=described)


def test_a_pulled_version_that_was_recalibrated_finds_its_start_by_hash_and_not_by_number(
    share: Path, here: ModelFolder
) -> None:
    from cxr.recalibration.recalibrate import _made_from_a_run

    start = load_package(PackageFolder(share / "tiny" / "1"))
    recalibrated(start.folder, share, start.file_hash)
    light_package(start.folder, here.path.parent, operating_point="half")  # another version 1
    pulled = load_package(pull_from(share, here))
    with pytest.raises(PackageError, match=r"pull that too \(`cxr package pull .* --name tiny --version 1`\)"):
        _made_from_a_run(here, pulled)
    pull_from(share, here, "1")
    assert _made_from_a_run(here, pulled).version == "3"


@pytest.mark.faults
def test_a_pull_that_is_killed_wherever_it_is_leaves_no_version_or_the_whole(share: Path, tmp_path: Path) -> None:
    outcomes = set()
    for step in range(1, 200, 3):
        model = ModelFolder.named(tmp_path / f"here-{step}", "tiny")
        died = dies_at(step, model.path.parent, pull_from, share, model)
        outcomes.add(tuple(model.versions()))
        assert load_package(pull_from(share, model)).version == (model.versions() or ["0"])[-1]
        assert not model.arriving.exists()
        assert [path.name for path in model.path.iterdir() if path.name.startswith(".")] == []
        if not died:
            break
        shutil.rmtree(model.path.parent)
    assert not died
    assert outcomes == {(), ("1",)}
