import shutil
from pathlib import Path

import pandas as pd
import pytest

from cxr.evaluation.out_of_fold import OutOfFold
from cxr.evaluation.outside.comparison import outside_tests, write_comparison
from cxr.evaluation.outside.metrics import outside_metrics
from cxr.evaluation.referral import outside_referral_table
from cxr.storage import verified
from cxr.storage.run_folder import RunFolder
from cxr.training.run import Run, load_run


def test_a_test_is_compared_with_cross_validation_whenever_that_changes(head: Run, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / head.folder.run_id)
    shutil.copytree(head.folder.path, folder.path)
    run = load_run(folder)
    assert outside_tests(folder) == {}
    predictions = verified.read_table(folder.predictions)
    internal = OutOfFold(predictions, run.classes)
    test = folder.held_out_test
    verified.write_json(test.openings, {"openings": []})
    verified.write_table(test.predictions, predictions.drop(columns=[*run.outputs.logit_columns, "fold"]))
    verified.write_table(test.metrics, outside_metrics(verified.read_table(test.predictions), internal))
    assert outside_tests(folder) == {"held_out_test": test}
    write_comparison(run, test)
    expected = outside_referral_table(predictions, internal)
    pd.testing.assert_frame_equal(verified.read_table(test.referral), expected)
    auc = verified.read_table(folder.summary).set_index("metric").loc["roc_auc", "pooled"]
    for lower in (0.0, 0.25):
        metrics = verified.read_table(folder.metrics)
        is_auc = (metrics["metric"] == "roc_auc") & (metrics["scope"] == "pooled")
        verified.write_table(folder.metrics, metrics.assign(value=metrics["value"].mask(is_auc, auc - lower)))
        write_comparison(run, test)
        gap = verified.read_table(test.gap).query("metric == 'roc_auc'")
        assert gap["inside"].tolist() == pytest.approx([auc - lower] * len(gap))
        assert gap["gap"].tolist() == pytest.approx((gap["outside"] - auc + lower).tolist())
