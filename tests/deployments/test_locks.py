"""The locks of the images against requirements.lock, with which the tests run, and against `make lock`."""

import re
import subprocess
import tomllib
from importlib.metadata import requires
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.processes import PROJECT

LOCKS = {"cpu": "deployments/requirements-cpu.lock", "gpu": "deployments/requirements-gpu.lock"}
CUDA = [line for line in (PROJECT / "deployments" / "cuda.txt").read_text().splitlines() if not line.startswith("#")]


class Pin(NamedTuple):
    """A library in the version that a lock gives it."""

    name: str
    version: str


def read(lock: str) -> dict[Pin, set[str]]:
    """Return the hashes of each library of a lock."""
    text = (PROJECT / lock).read_text().replace("\\\n", " ")
    pins = re.findall(r"^([a-z0-9.-]+)==([^ ;]+)(.*)$", text, re.MULTILINE)
    return {Pin(name, version): set(re.findall(r"--hash=(\S+)", rest)) for name, version, rest in pins}


def names(lock: str) -> set[str]:
    return {pin.name for pin in read(lock)}


def required(*groups: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(text).name) for group in groups for text in group if isinstance(text, str)}


@pytest.mark.parametrize("device", LOCKS)
def test_an_image_has_the_libraries_that_the_tests_run_with(device: str) -> None:
    tested = read("requirements.lock")
    in_image = read(LOCKS[device])
    assert len(in_image) > 100
    assert all(hashes for hashes in in_image.values())
    assert {pin: hashes for pin, hashes in in_image.items() if tested.get(pin) != hashes} == {}


@pytest.mark.parametrize("lock", ["requirements.lock", *LOCKS.values()])
def test_a_lock_names_no_index(lock: str) -> None:
    text = (PROJECT / lock).read_text()
    assert "://" not in text
    assert not re.search(r"^--|index-url|find-links", text, re.MULTILINE)


def test_the_images_have_what_the_program_needs_and_nothing_for_its_tests() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    needed = required(project["project"]["dependencies"], *(own for name, own in extras.items() if name != "ray"))
    assert needed <= names(LOCKS["gpu"])
    assert needed - {"torch", "torchvision"} <= names(LOCKS["cpu"])
    for_developers = required(*project["dependency-groups"].values(), extras["ray"]) - needed
    assert {"pytest", "playwright", "moto", "ray"} < for_developers
    assert not for_developers & names(LOCKS["gpu"])


def test_the_lock_for_a_cpu_is_that_for_a_gpu_without_torch_and_what_it_brings_for_cuda() -> None:
    missing = names(LOCKS["gpu"]) - names(LOCKS["cpu"])
    assert read(LOCKS["cpu"]).items() <= read(LOCKS["gpu"]).items()
    assert missing >= {"torch", "torchvision", *CUDA}
    assert all(name.startswith(("cuda-", "nvidia-")) for name in missing - {"torch", "torchvision", "triton"})
    assert not {name for name in names(LOCKS["cpu"]) if name.startswith(("cuda-", "nvidia-"))}


def test_what_is_left_out_for_a_cpu_is_what_torch_requires_on_linux_alone() -> None:
    wanted = [Requirement(text) for text in requires("torch") or []]
    assert sorted(CUDA) == sorted(one.name for one in wanted if "platform_system" in str(one.marker))


def test_make_lock_writes_the_three_locks_by_the_commands_in_their_headers() -> None:
    command = ["make", "--dry-run", "--always-make", "lock", "UV=.uv/bin/uv"]
    printed = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    recipes = printed.replace("\\\n", " ").replace("--quiet ", "").splitlines()
    written = [" ".join(line.split()).replace(".uv/bin/uv", "uv") for line in recipes if "pip compile" in line]
    headers = [
        (PROJECT / lock).read_text().splitlines()[1].strip("# ") for lock in ("requirements.lock", *LOCKS.values())
    ]
    assert sorted(written) == sorted(headers)
