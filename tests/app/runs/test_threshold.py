import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, precision_score, recall_score

from app.server import Folders
from cxr.classes import Classes
from cxr.evaluation.out_of_fold import OutOfFold
from cxr.storage import files
from cxr.storage.run_folder import RunFolder
from tests.app.support import opened


@pytest.mark.parametrize("threshold", [0.0, 0.355, 1.0])
def test_the_threshold_moves_the_matrix_to_what_scikit_learn_gives(folders: Folders, threshold: float) -> None:
    view = opened("runs", folders)
    view.pills[0].set_value("Threshold").run()
    view.slider[0].set_value(threshold).run()
    folder = RunFolder.named(folders.experiments, "run")
    run = OutOfFold(files.read_table(folder.predictions), Classes(files.read_record(folder.config)["classes"]))
    truth = run.target
    predicted = (run.calibrated[:, 1] >= threshold).astype(int)
    expected = confusion_matrix(truth, predicted, labels=[1, 0])
    matrix = view.table[0].value
    assert matrix.to_numpy().tolist() == [[f"{n:,}" for n in row] for row in expected.tolist()]
    assert matrix.columns.tolist() == ["predicted PNEUMONIA", "predicted NORMAL"]
    shown = {metric.label: metric.value for metric in view.metric}
    assert shown["Sensitivity"] == f"{100 * recall_score(truth, predicted):.1f}%"
    assert shown["Specificity"] == f"{100 * recall_score(truth, predicted, pos_label=0):.1f}%"
    for name, positive in (("PPV", 1), ("NPV", 0)):
        value = precision_score(truth, predicted, pos_label=positive, zero_division=np.nan)
        assert shown[name] == ("–" if np.isnan(value) else f"{100 * value:.1f}%")


def test_operating_points_are_shown_with_their_thresholds(folders: Folders) -> None:
    view = opened("runs", folders)
    view.pills[0].set_value("Threshold").run()
    points = view.table[1].value
    assert points.index[0] == "even odds, 0.5"
    assert points["threshold"].iloc[0] == "0.500"
