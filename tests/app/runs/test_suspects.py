import shutil
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app.gallery import PER_PAGE
from app.server import Folders
from app.words import escape
from cxr.storage import files, verified
from cxr.storage.run_folder import RunFolder
from tests.app.support import opened, pictures, texts


@pytest.fixture
def changed(folders: Folders, tmp_path: Path) -> tuple[Folders, RunFolder]:
    """A copy of the run, to be changed."""
    shutil.copytree(folders.experiments / "run", tmp_path / "run", ignore=shutil.ignore_patterns("*.safetensors"))
    return Folders(tmp_path, folders.models, folders.scores, folders.cache), RunFolder(tmp_path / "run")


def section(folders: Folders) -> AppTest:
    view = opened("runs", folders)
    view.pills[0].set_value("Label suspects").run()
    assert not view.exception
    return view


def test_suspects_are_listed_and_the_first_are_shown(folders: Folders) -> None:
    view = section(folders)
    table = files.read_table(RunFolder.named(folders.experiments, "run").table("label_suspects"))
    suspects = table[table["is_suspect"]]
    assert len(suspects), "a small network doubts some labels"
    assert f"{len(suspects)} of {len(table)} labels" in texts(view)
    assert view.dataframe[-1].value["path"].tolist() == suspects["path"].tolist()
    shown = pictures(view)
    assert len(shown) == min(PER_PAGE, len(suspects))
    assert all(address.startswith("data:image/jpeg;base64,") for address in shown)
    first = suspects.iloc[0]
    assert f"**1: {first['label']}**\n" in texts(view)
    assert escape(first["path"]) in texts(view)
    assert "not available" not in texts(view)


def test_images_that_are_gone_are_counted(changed: tuple[Folders, RunFolder], tmp_path: Path) -> None:
    folders, run = changed
    record = files.read_record(run.config)
    verified.write_json(run.config, record | {"config": record["config"] | {"data": str(tmp_path / "gone")}})
    table = files.read_table(run.table("label_suspects"))
    n_shown = min(PER_PAGE, int(table["is_suspect"].sum()))
    view = section(folders)
    assert f"{n_shown} of these {n_shown} images are not available: moved, deleted or changed since." in texts(view)
    assert not view.image


def test_a_run_without_suspects_says_so(changed: tuple[Folders, RunFolder]) -> None:
    folders, run = changed
    table = files.read_table(run.table("label_suspects"))
    verified.write_table(run.table("label_suspects"), table.assign(is_suspect=False))
    assert f"None of {len(table)} labels is a suspect." in texts(section(folders))


def test_a_run_that_was_evaluated_before_there_were_suspects_says_what_to_type(
    changed: tuple[Folders, RunFolder],
) -> None:
    folders, run = changed
    verified.remove(run.table("label_suspects"))
    assert "evaluate run`, which writes every table" in texts(section(folders)).replace("\\", "")
