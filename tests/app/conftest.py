import sys
from pathlib import Path

import pytest

from app import uploads
from app.server import Folders
from app.uploads import LoadedModel


@pytest.fixture(autouse=True)
def main_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """AppTest puts the view's script in place of `__main__`, which later tests' child processes would run."""
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])


@pytest.fixture(scope="session")
def folders(home: Path, scored: Path) -> Folders:
    """A run, its model, and a scored inbox."""
    return Folders(home / "experiments", home / "models", scored, home / "cache")


@pytest.fixture
def model(folders: Folders) -> LoadedModel:
    """The model `tiny`, loaded as the page loads it."""
    return uploads.load_model(folders.models, "tiny", "1", folders.cache)
