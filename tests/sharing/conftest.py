"""Packages of a few kilobytes, and places to push them to."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from cxr.storage.model_folder import ModelFolder, PackageFolder
from tests.support.hub import TOKEN, HubDouble, hub_double
from tests.support.packages import light_package


@pytest.fixture
def light(home: Path, tmp_path: Path) -> PackageFolder:
    """Version 1 of the model `tiny` in `models`."""
    return light_package(ModelFolder.named(home / "models", "tiny").version("1"), tmp_path / "models")


@pytest.fixture
def here(tmp_path: Path) -> ModelFolder:
    """The model `tiny` of another machine, which has no version yet."""
    return ModelFolder.named(tmp_path / "here", "tiny")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubDouble]:
    """A double of the Hub that huggingface_hub talks to, with a token; large files go over HTTP, not by Xet."""
    with hub_double() as double:
        monkeypatch.setattr(constants, "ENDPOINT", double.address)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", double.address + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield double
