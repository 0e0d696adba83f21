import pytest
from streamlit.testing.v1 import AppTest

from app.gallery import PER_PAGE
from app.server import Folders
from app.words import escape
from cxr.classes import Classes
from cxr.evaluation.out_of_fold import OutOfFold
from cxr.storage import files
from cxr.storage.run_folder import RunFolder
from tests.app.support import opened, pictures, texts


@pytest.fixture
def run(folders: Folders) -> OutOfFold:
    folder = RunFolder.named(folders.experiments, "run")
    return OutOfFold(files.read_table(folder.predictions), Classes(files.read_record(folder.config)["classes"]))


@pytest.fixture
def view(folders: Folders) -> AppTest:
    view = opened("runs", folders)
    view.pills[0].set_value("Errors").run()
    assert not view.exception
    return view


def test_every_wrong_prediction_is_shown_the_most_confident_first(view: AppTest, run: OutOfFold) -> None:
    is_wrong = run.calibrated.argmax(axis=1) != run.target
    n_wrong = int(is_wrong.sum())
    assert n_wrong, "a small network errs"
    assert f"**{n_wrong} of {len(is_wrong)} images** are predicted wrongly" in texts(view)
    table = view.dataframe[-1].value
    assert set(table["path"]) == set(run.predictions.loc[is_wrong, "path"])
    assert table["probability"].tolist() == sorted(run.calibrated.max(axis=1)[is_wrong], reverse=True)
    assert len(pictures(view)) == min(PER_PAGE, n_wrong)
    first = table.iloc[0]
    assert f"**{first['label']}, predicted {first['predicted']}**" in texts(view)
    assert escape(first["path"]) in texts(view)


def test_errors_are_filtered_by_their_fold(view: AppTest) -> None:
    everything = view.dataframe[-1].value
    fold = next(box for box in view.multiselect if box.label == "Fold")
    fold.set_value([1]).run()
    wanted = everything[everything["fold"] == 1]
    assert view.dataframe[-1].value["path"].tolist() == wanted["path"].tolist()
    assert len(pictures(view)) == min(PER_PAGE, len(wanted))
    assert f"{len(wanted)} of {len(everything)} images pass the filters." in texts(view)
