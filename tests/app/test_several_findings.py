"""The page with a model of several findings: the visitor chooses one, and sees it as two classes."""

from pathlib import Path

import pytest

from app.server import Folders
from cxr.export.build import make_package
from cxr.images.synthetic import draw_examples
from cxr.serving import registry
from cxr.storage import files
from cxr.storage.model_folder import ModelFolder
from cxr.training.run import Run
from tests.app.support import opened, texts
from tests.support.shared import NewFolder


@pytest.fixture(scope="module")
def folders(several: Run, new_folder: NewFolder) -> Folders:
    place = new_folder("page")
    model = ModelFolder.named(place / "models", "findings")
    registry.promote(model, make_package(several, model).version)
    return Folders(several.folder.path.parent, place / "models", place / "scores", place / "cache")


def test_a_run_shows_the_metrics_of_the_finding_that_is_chosen(folders: Folders, several: Run) -> None:
    view = opened("runs", folders)
    assert [box.label for box in view.selectbox] == ["Finding"]
    summary = files.read_table(several.folder.summary).set_index(["class", "metric"])
    for name in ("bacteria", "virus"):
        view.selectbox[0].set_value(name).run()
        row = summary.loc[(name, "roc_auc")] * 100
        shown = view.table[0].value.loc["ROC-AUC", "pooled [95%]"].replace("\N{NO-BREAK SPACE}", " ")
        assert shown == f"{row['pooled']:.1f} [{row['ci_low']:.1f}, {row['ci_high']:.1f}]"
    for section in ("Threshold", "Curves", "Folds and subgroups", "Errors", "Label suspects", "Training", "Compare"):
        view.pills[0].set_value(section).run()
        assert not view.exception, section


def test_an_image_is_classified_for_the_finding_that_is_chosen(folders: Folders) -> None:
    view = opened("classify", folders)
    image = draw_examples(seed=9)["one dense patch"]
    view.file_uploader[0].set_value([("image.jpeg", image, "image/jpeg")]).run()
    assert not view.exception
    package = registry.load_champion(folders.models, "findings")
    (held,) = view.session_state["images"].values()
    for name in ("bacteria", "virus"):
        view.selectbox[1].set_value(name).run()
        assert not view.exception
        assert f"**{held.prediction.probability[name]:.1%}**" in texts(view)
        expected = name if held.prediction.called[name] else f"no {name}"
        assert package.operating_point == "youden"
        assert view.header[0].value == expected


def test_a_model_shows_the_thresholds_of_the_finding_that_is_chosen(folders: Folders, tmp_path: Path) -> None:
    view = opened("models", folders)
    thresholds = registry.load_champion(folders.models, "findings").thresholds_of
    chooser = next(box for box in view.selectbox if box.label == "Finding")
    chooser.set_value("virus").run()
    assert view.table[0].value["threshold"].tolist() == [f"{value:.3f}" for value in thresholds["virus"].values()]
