"""Tests outside cross-validation in a report: their results beside the cross-validated ones, and their openings."""

from collections.abc import Collection
from typing import Any

import pandas as pd

from cxr.classes import Findings
from cxr.dataset.findings import count_by_class
from cxr.evaluation.outside.tests import is_current
from cxr.metrics.classification import COUNTS
from cxr.storage import verified
from cxr.storage.run_folder import OutsideTestFolder, RunFolder
from cxr.training.run import Run

Tables = dict[str, pd.DataFrame]


def tests_of(folder: RunFolder) -> dict[str, OutsideTestFolder]:
    """Return the tests outside cross-validation that were made, by the place of their folders in the run's."""
    tests = {"held_out_test": folder.held_out_test} if verified.exists(folder.held_out_test.openings) else {}
    return tests | {f"external_tests/{test.path.name}": test for test in folder.external_tests()}


def write_gaps(folder: RunFolder, tables: Tables) -> Tables:
    """Write the table `gap` of each test outside cross-validation; return them by the place of their files."""
    gaps: Tables = {}
    for name, test in tests_of(folder).items():
        gaps[f"{name}/gap"] = _gap(test, tables, folder)
        verified.write_table(test.gap, gaps[f"{name}/gap"])
    return gaps


def _gap(test: OutsideTestFolder, tables: Tables, folder: RunFolder) -> pd.DataFrame:
    """Compare a test outside cross-validation with the cross-validated results: one row per operating point and metric.

    Columns: operating_point, class, metric, inside, inside_low, inside_high, outside, outside_low, outside_high, gap.
    """
    pooled = tables["metrics"].query("scope == 'pooled'").assign(operating_point="")
    points = tables["operating_points"]
    if "class" not in points:
        points = points.assign(**{"class": verified.read_record(folder.config)["positive"]})
    inside = pd.concat([points, pooled], ignore_index=True)
    outside = verified.read_table(test.metrics)
    outside = outside[~outside["metric"].isin(COUNTS)]
    has_point = outside["metric"].isin(points["metric"]) & outside["operating_point"].isin(points["operating_point"])
    keys = ["operating_point", "class", "metric"]
    names = {"value": "inside", "ci_low": "inside_low", "ci_high": "inside_high"}
    wanted = outside.assign(at=outside["operating_point"].where(has_point, ""))
    found = inside[[*keys, *names]].rename(columns=names | {"operating_point": "at"})
    renamed = {"value": "outside", "ci_low": "outside_low", "ci_high": "outside_high"}
    table = wanted.rename(columns=renamed).merge(found, on=["at", "class", "metric"], how="left")
    return table.assign(gap=table["outside"] - table["inside"])[[*keys, *names.values(), *renamed.values(), "gap"]]


def openings(run: Run, test: OutsideTestFolder, classes: Collection[str]) -> dict[str, Any]:
    """Return what a page says of a test: name, openings, counts, and whether it is of the run's present weights.

    Args:
        run: finished.
        test: the test.
        classes: that the page is about; of several findings, one of them and its absence.
    """
    record = verified.read_json(test.openings)["openings"]
    images = verified.read_table(test.predictions)
    if isinstance(run.outputs, Findings):
        counts = {name: n for name, n in count_by_class(images).items() if name in classes}
    else:
        counts = images["label"].value_counts().to_dict()
    return {"name": test.path.name, "openings": record, "counts": counts, "is_current": is_current(run, test)}
