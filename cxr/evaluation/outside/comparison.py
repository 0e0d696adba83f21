"""What tests outside cross-validation are held against: the cross-validated results, and their thresholds for referral.

Both tables follow from a test's predictions and from those out of fold. They are written when a test is opened, and for
every test again when the tables of its run are.
"""

import pandas as pd

from cxr.evaluation.findings import out_of_fold_of
from cxr.evaluation.referral import outside_referral_table
from cxr.metrics.classification import COUNTS
from cxr.storage import verified
from cxr.storage.run_folder import OutsideTestFolder, RunFolder
from cxr.training.run import Run


def outside_tests(folder: RunFolder) -> dict[str, OutsideTestFolder]:
    """Return the tests outside cross-validation that were made, by the place of their folders in the run's."""
    external = {f"external_tests/{test.path.name}": test for test in folder.external_tests()}
    tests = {"held_out_test": folder.held_out_test} | external
    return {name: test for name, test in tests.items() if verified.exists(test.openings)}


def write_comparison(run: Run, test: OutsideTestFolder) -> None:
    """Write the tables `gap` and `referral` of a test from its own tables and the run's."""
    predictions = verified.read_table(run.folder.predictions)
    internal = out_of_fold_of(predictions, run.outputs)
    verified.write_table(test.gap, _gap(run, verified.read_table(test.metrics)))
    verified.write_table(test.referral, outside_referral_table(verified.read_table(test.predictions), internal))


def _gap(run: Run, outside: pd.DataFrame) -> pd.DataFrame:
    """Compare a test's metrics with the cross-validated ones: one row per operating point, class and metric.

    Columns: operating_point, class, metric, inside, inside_low, inside_high, outside, outside_low, outside_high, gap.
    """
    metrics = verified.read_table(run.folder.metrics)
    points = verified.read_table(run.folder.table("operating_points"))
    if "class" not in points:
        points = points.assign(**{"class": run.classes.positive})
    inside = pd.concat([points, metrics.query("scope == 'pooled'").assign(operating_point="")], ignore_index=True)
    outside = outside[~outside["metric"].isin(COUNTS)]
    has_point = outside["metric"].isin(points["metric"]) & outside["operating_point"].isin(points["operating_point"])
    keys = ["operating_point", "class", "metric"]
    names = {"value": "inside", "ci_low": "inside_low", "ci_high": "inside_high"}
    wanted = outside.assign(at=outside["operating_point"].where(has_point, ""))
    found = inside[[*keys, *names]].rename(columns=names | {"operating_point": "at"})
    renamed = {"value": "outside", "ci_low": "outside_low", "ci_high": "outside_high"}
    table = wanted.rename(columns=renamed).merge(found, on=["at", "class", "metric"], how="left")
    return table.assign(gap=table["outside"] - table["inside"])[[*keys, *names.values(), *renamed.values(), "gap"]]
