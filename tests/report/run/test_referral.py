import shutil
from pathlib import Path

import pandas as pd

from cxr.evaluation.out_of_fold import OutOfFold
from cxr.evaluation.referral import outside_referral_table
from cxr.report.run.referral import write_outside_referrals
from cxr.storage import verified
from cxr.storage.run_folder import RunFolder
from cxr.training.run import Run


def test_each_test_set_that_was_opened_gets_a_table_beside_its_results(head: Run, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / head.folder.run_id)
    shutil.copytree(head.folder.path, folder.path)
    predictions = verified.read_table(folder.predictions)
    assert write_outside_referrals(folder, predictions, head.outputs) == {}
    test = folder.held_out_test
    verified.write_json(test.openings, {"openings": []})
    verified.write_table(test.predictions, predictions.drop(columns=[*head.outputs.logit_columns, "fold"]))
    tables = write_outside_referrals(folder, predictions, head.outputs)
    expected = outside_referral_table(predictions, OutOfFold(predictions, head.classes))
    assert list(tables) == ["held_out_test/referral"]
    pd.testing.assert_frame_equal(tables["held_out_test/referral"], expected)
    pd.testing.assert_frame_equal(verified.read_table(folder.path / "held_out_test" / "referral.parquet"), expected)
