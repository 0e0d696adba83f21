"""Finished runs, and the packages made of them, for all tests of the export."""

from pathlib import Path

import pytest

from cxr.export.build import make_package
from cxr.serving.package import Package, load_package
from cxr.storage.model_folder import ModelFolder
from cxr.training.run import Run
from tests.support.runs import Finished


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def whole(finished: Finished) -> Run:
    """A finished run of which everything was trained."""
    return finished()


@pytest.fixture(scope="session", params=["head", "all"])
def packaged(request: pytest.FixtureRequest, models: Path) -> tuple[Run, Package]:
    """A finished run and the package made of it."""
    run = request.getfixturevalue({"head": "head", "all": "whole"}[request.param])
    return run, load_package(make_package(run, ModelFolder.named(models, request.param)))
