"""Pushing to the Hugging Face Hub and pulling from it, against a double of its HTTP protocol."""

import importlib.util
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cxr.errors import ConfigError, PackageError
from cxr.serving.package import load_package
from cxr.sharing.place import open_place
from cxr.sharing.pull import pull
from cxr.sharing.push import push
from cxr.storage.model_folder import ModelFolder, PackageFolder
from tests.support.hub import TOKEN, HubDouble
from tests.support.packages import light_package
from tests.support.processes import wait_for

PLACE = "hf://ward/chest"
COMMAND = [sys.executable, "-m", "cxr", "package"]


def push_to(address: str, folder: PackageFolder) -> bool:
    return push(load_package(folder), open_place(address, "DESTINATION"))


def pull_from(address: str, model: ModelFolder, version: str | None = None) -> PackageFolder:
    return pull(open_place(address, "SOURCE"), model, version)


def test_a_package_goes_there_in_one_commit_and_comes_back_to_the_byte(
    light: PackageFolder, here: ModelFolder, hub: HubDouble
) -> None:
    assert push_to(PLACE, light)
    repository = hub.repositories["ward/chest"]
    assert repository.is_private
    assert len(repository.commits) == 2, "that which made the repository, and the push"
    files = {path.name: path.read_bytes() for path in light.path.iterdir()}
    expected = {f"tiny/1/{name}": data for name, data in files.items()} | {"README.md": files["README.md"]}
    assert {path: data for path, data in repository.files.items() if path != ".gitattributes"} == expected
    pulled = load_package(pull_from(PLACE, here))
    assert pulled.facts["pulled"]["from"] == PLACE
    assert (pulled.folder.shared_weights).read_bytes() == files["shared.safetensors"]
    assert not here.arriving.exists()


def test_the_same_is_there_already_and_another_is_never_overwritten(
    light: PackageFolder, hub: HubDouble, tmp_path: Path
) -> None:
    push_to(PLACE, light)
    before = hub.repositories["ward/chest"].head
    assert not push_to(PLACE, light)
    other = light_package(light, tmp_path / "others", operating_point="balanced")
    with pytest.raises(PackageError, match="has another package as version 1 of 'tiny'"):
        push_to(PLACE, other)
    assert hub.repositories["ward/chest"].head == before
    assert push_to(PLACE, light_package(light, tmp_path / "others", "2"))
    assert open_place(PLACE, "SOURCE").versions("tiny") == ["1", "2"]


def test_an_older_commit_is_pulled_as_it_was(
    light: PackageFolder, here: ModelFolder, hub: HubDouble, tmp_path: Path
) -> None:
    push_to(PLACE, light)
    first = hub.repositories["ward/chest"].head
    push_to(PLACE, light_package(light, tmp_path / "others", "2", operating_point="half"))
    pull_from(f"{PLACE}@{first}", here)
    with pytest.raises(PackageError, match="has no version '2' of 'tiny'; it has 1"):
        pull_from(f"{PLACE}@{first}", here, "2")
    assert load_package(pull_from(PLACE, here)).operating_point == "half"


def test_a_byte_that_the_hub_changed_is_refused(light: PackageFolder, here: ModelFolder, hub: HubDouble) -> None:
    push_to(PLACE, light)
    files = hub.repositories["ward/chest"].files
    files["tiny/1/fold-1.safetensors"] = files["tiny/1/fold-1.safetensors"][:-1] + b"?"
    with pytest.raises(PackageError, match=r"'fold-1\.safetensors' was changed"):
        pull_from(PLACE, here)
    files["tiny/1/fold-1.safetensors"] = (light.path / "fold-1.safetensors").read_bytes()
    files["tiny/1/scripts/run.py"] = b"print()"
    with pytest.raises(PackageError, match="no file that a package holds"):
        pull_from(PLACE, here)
    assert not here.path.exists()


def test_two_pushes_at_once_do_not_overwrite_one_another(light: PackageFolder, hub: HubDouble, tmp_path: Path) -> None:
    push_to(PLACE, light_package(light, tmp_path / "others", "2"))
    place = open_place(PLACE, "DESTINATION")
    assert place.sizes("tiny", "1") == {}, "it has read the newest commit"
    push_to(PLACE, light_package(light, tmp_path / "third", operating_point="half"))
    with pytest.raises(ConfigError, match=r"the Hub's repository 'ward/chest' cannot be used"):
        push(load_package(light), place)
    assert b'"operating_point": "half"' in hub.repositories["ward/chest"].files["tiny/1/package.json"]


def test_a_private_repository_is_read_with_a_token_alone(
    light: PackageFolder, here: ModelFolder, hub: HubDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    push_to(PLACE, light)
    monkeypatch.setenv("HF_TOKEN", "hf_another")
    with pytest.raises(ConfigError, match=r"no repository 'ward/chest', or does not show it to you: .*HF_TOKEN"):
        pull_from(PLACE, here)
    with pytest.raises(ConfigError, match="cannot be used") as error:
        push_to("hf://ward/new", light)
    assert "hf_another" not in str(error.value)


def test_a_revision_that_is_not_there_and_a_hub_that_does_not_answer_are_sentences(
    light: PackageFolder, here: ModelFolder, hub: HubDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    push_to(PLACE, light)
    with pytest.raises(ConfigError, match=r"cannot be used \(RevisionNotFoundError: .*\): check its name") as error:
        pull_from(f"{PLACE}@nowhere", here)
    assert len(str(error.value).splitlines()) == 1
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ConfigError, match=r"the Hub's repository 'ward/chest' cannot be used \(ConnectError"):
        pull_from(PLACE, here)


def test_without_the_extra_a_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "huggingface_hub" else find_spec(name))
    with pytest.raises(ConfigError, match=r"hf://ward/chest needs huggingface_hub: install cxr with the extra \[hub\]"):
        open_place(PLACE, "DESTINATION")


@pytest.fixture
def environment(hub: HubDouble) -> dict[str, str]:
    """An environment in which another process talks to the double."""
    return os.environ | {"HF_ENDPOINT": hub.address, "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1"}


@pytest.fixture
def held(hub: HubDouble) -> Iterator[threading.Event]:
    """An event that uploads of large files wait for."""
    hub.held = threading.Event()
    yield hub.held
    hub.held.set()


@pytest.mark.faults
def test_a_push_that_is_killed_amid_its_files_has_committed_nothing(
    light: PackageFolder, here: ModelFolder, hub: HubDouble, environment: dict[str, str], held: threading.Event
) -> None:
    words = ["push", "tiny/1", PLACE, f"--models={light.path.parents[1]}"]
    pushing = subprocess.Popen([*COMMAND, *words], env=environment, stderr=subprocess.DEVNULL)
    wait_for(lambda: any(line.startswith("PUT /large/") for line in hub.requests), "an upload", timeout_s=60)
    pushing.kill()
    pushing.wait()
    assert set(hub.repositories["ward/chest"].files) == {".gitattributes"}
    with pytest.raises(PackageError, match="no package of 'tiny'"):
        pull_from(PLACE, here)
    held.set()
    subprocess.run([*COMMAND, *words], env=environment, check=True, capture_output=True)
    assert load_package(pull_from(PLACE, here)).version == "1"
