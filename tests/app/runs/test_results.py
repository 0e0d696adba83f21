import shutil
from pathlib import Path

import pytest

from app.runs import results
from app.server import Folders
from cxr.storage import files, verified
from cxr.storage.run_folder import RunFolder


@pytest.fixture
def folder(folders: Folders, tmp_path: Path) -> RunFolder:
    """A copy of the run, to write into."""
    shutil.copytree(folders.experiments / "run", tmp_path / "run", ignore=shutil.ignore_patterns("*.safetensors"))
    return RunFolder(tmp_path / "run")


def test_predictions_are_read_once_and_again_when_they_change(folder: RunFolder) -> None:
    first = results.out_of_fold(folder)
    assert results.out_of_fold(folder) is first
    verified.write_table(folder.predictions, files.read_table(folder.predictions)[::-1])
    assert results.out_of_fold(folder) is not first


def test_every_table_is_computed_from_the_predictions(folder: RunFolder) -> None:
    for name in (*results.COMPUTE, "subgroups"):
        computed = results.table(name, folder)
        tables = computed.values() if isinstance(computed, dict) else [computed]
        assert all(len(table) for table in tables), name
