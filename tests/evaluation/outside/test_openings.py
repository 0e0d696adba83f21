import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import load_file
from sklearn import metrics as sk

from cxr.evaluation.out_of_fold import OutOfFold
from cxr.evaluation.outside.tests import open_held_out_test
from cxr.metrics.calibration import fit_calibration, fit_thresholds
from cxr.network.resnet import Classifier, predict_logits
from cxr.report.run.outside import openings
from cxr.storage import files
from cxr.storage.run_folder import RunFolder
from cxr.training.run import Run, load_run
from tests.support.runs import Finished


@pytest.fixture
def run(finished: Finished, tmp_path: Path) -> Run:
    """A copy of a finished run with the split `test` held out, to write into."""
    made = finished(holdout="test")
    shutil.copytree(made.folder.path, tmp_path / "experiments" / "holdout")
    return load_run(RunFolder(tmp_path / "experiments" / "holdout"))


def test_held_out_images_are_predicted_by_all_folds_with_what_was_fitted_out_of_fold(run: Run) -> None:
    folder = open_held_out_test(run)
    predictions, metrics = files.read_table(folder.predictions), files.read_table(folder.metrics)
    manifest = files.read_table(run.folder.manifest).query("split == 'test' and status != 'unreadable'")
    assert set(predictions["image_id"]) == set(manifest["image_id"])
    assert not set(predictions["image_id"]) & set(run.images()["image_id"])
    inside = OutOfFold(files.read_table(run.folder.predictions), run.classes)
    calibration = fit_calibration(inside.logits, inside.target)
    by_fold = []
    for fold in range(run.config.folds):
        model = Classifier(2)
        model.load_state_dict(load_file(run.folder.fold(fold).weights))
        by_fold.append(calibration.probability(predict_logits(model, run.squares(predictions), "cpu"))[:, 1])
    np.testing.assert_allclose(predictions["probability_PNEUMONIA"], np.mean(by_fold, axis=0), atol=1e-6)
    thresholds = fit_thresholds(inside.calibrated[:, 1], inside.target == 1, calibration.balanced)
    truth, score = predictions["label"] == "PNEUMONIA", predictions["probability_PNEUMONIA"]
    values = metrics.set_index(["operating_point", "metric"])
    for point, threshold in thresholds.items():
        assert values.loc[(point, "roc_auc"), "threshold"] == threshold
        assert values.loc[(point, "roc_auc"), "value"] == pytest.approx(sk.roc_auc_score(truth, score))
        assert values.loc[(point, "sensitivity"), "value"] == pytest.approx(sk.recall_score(truth, score >= threshold))


def test_a_second_opening_is_recorded_with_a_warning(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    folder = open_held_out_test(run)
    assert len(files.read_json(folder.openings)["openings"]) == 1
    assert not [record for record in caplog.records if record.levelname == "WARNING"]
    open_held_out_test(run)
    first, second = files.read_json(folder.openings)["openings"]
    assert {**first, "opened_at": None} == {**second, "opened_at": None}
    assert "this test set was opened before: 1 times" in caplog.text
    assert "are the same" in caplog.text
    assert openings(run, folder, run.classes)["n_ensembles"] == 1


def test_openings_are_written_before_the_results(run: Run) -> None:
    """Results that anyone has seen are on record, whenever the process was killed."""
    folder = open_held_out_test(run)
    assert folder.openings.stat().st_mtime_ns <= folder.predictions.stat().st_mtime_ns
    assert pd.read_parquet(folder.metrics)["n"].eq(len(pd.read_parquet(folder.predictions))).all()
