from pathlib import Path

import pytest

from app.classify import loading
from app.classify.loading import LoadedModel
from app.server import Folders


@pytest.fixture(scope="session")
def folders(home: Path, scored: Path) -> Folders:
    """A run, its model, and a scored inbox."""
    return Folders(home / "experiments", home / "models", scored, home / "cache")


@pytest.fixture
def model(folders: Folders) -> LoadedModel:
    """The model `tiny`, loaded as the page loads it."""
    return loading.load_model(folders.models, "tiny", "1", folders.cache)
