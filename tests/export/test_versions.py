from collections.abc import Callable
from pathlib import Path

import pytest

from cxr.errors import PackageError
from cxr.export.versions import Write, add_version, has_identity
from cxr.storage import files
from cxr.storage.model_folder import ModelFolder, PackageFolder
from tests.support.packages import sign

Writing = Callable[[dict[str, object]], Write]


@pytest.fixture
def model(tmp_path: Path) -> ModelFolder:
    return ModelFolder.named(tmp_path / "models", "tiny")


@pytest.fixture
def writing(model: ModelFolder) -> Writing:
    """Make a function that writes a version with an identity."""

    def of(identity: dict[str, object]) -> Write:
        def write(folder: PackageFolder, version: str) -> None:
            files.write_json(folder.description, {"name": model.name, "version": version, "identity": identity})
            sign(folder)

        return write

    return of


def add(model: ModelFolder, writing: Writing, **identity: object) -> str:
    return add_version(model, has_identity(identity), writing(identity)).version


def test_versions_are_numbered_and_one_identity_has_one_version(model: ModelFolder, writing: Writing) -> None:
    assert [add(model, writing, run="a"), add(model, writing, run="b"), add(model, writing, run="a")] == ["1", "2", "1"]
    assert model.versions() == ["1", "2"]


def test_the_number_of_a_deleted_version_is_not_given_again(model: ModelFolder, writing: Writing) -> None:
    add(model, writing, run="a")
    last = model.version(add(model, writing, run="b"))
    last.path.rename(model.path.parent / "away")
    assert add(model, writing, run="b") == "3"


def test_a_version_that_cannot_be_written_whole_is_not_there_at_all(model: ModelFolder, writing: Writing) -> None:
    def fail(folder: PackageFolder, version: str) -> None:
        writing({"run": "a"})(folder, version)
        raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space"):
        add_version(model, has_identity({"run": "a"}), fail)
    assert list(model.path.iterdir()) == []
    assert add(model, writing, run="a") == "1"


def test_what_a_killed_process_left_is_removed(model: ModelFolder, writing: Writing) -> None:
    (model.path / ".making-123").mkdir(parents=True)
    add(model, writing, run="a")
    assert sorted(path.name for path in model.path.iterdir()) == ["1", "newest"]


def test_a_copy_of_another_models_version_does_not_count_as_this_ones(model: ModelFolder, writing: Writing) -> None:
    copy = model.version("1")
    copy.path.mkdir(parents=True)
    files.write_json(copy.description, {"name": "other", "version": "1", "identity": {"run": "a"}})
    sign(copy)
    assert add(model, writing, run="a") == "2"


def test_a_damaged_highest_number_is_asked_for(model: ModelFolder, writing: Writing) -> None:
    add(model, writing, run="a")
    model.newest.write_text("many\n")
    with pytest.raises(PackageError, match=r"newest' must hold the highest version number ever given, got b'many'"):
        add(model, writing, run="b")
