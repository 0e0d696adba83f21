import re
import shutil

import numpy as np
import pandas as pd
import pytest

from cxr.report import figures
from cxr.report.run.findings_overview import overview_page
from cxr.storage import verified
from cxr.storage.run_folder import RunFolder
from cxr.training.run import Run, load_run
from tests.support.shared import NewFolder

LOWEST = {"bacteria": 0.01, "virus": -0.02}
"""Of the interval of the difference between the networks' ROC-AUC and that of acquisition alone."""


@pytest.fixture(scope="module")
def run(several: Run, new_folder: NewFolder) -> Run:
    """A copy of a run of two findings, of which the networks are surely better than acquisition alone in one."""
    folder = RunFolder(new_folder("overview") / "several")
    shutil.copytree(several.folder.path, folder.path, ignore=shutil.ignore_patterns("*.safetensors"))
    for name, low in LOWEST.items():
        rows = [("networks", 0.8, 0.7, 0.9), ("acquisition", 0.6, 0.5, 0.7), ("difference", 0.2, low, 0.4)]
        table = pd.DataFrame(rows, columns=["model", "value", "ci_low", "ci_high"]).assign(**{"class": name})
        verified.write_table(folder.figures / f"{name}.parquet", table)
    return load_run(folder)


def test_the_overview_has_each_finding_at_the_operating_point_of_a_package_beside_acquisition_alone(run: Run) -> None:
    folder = run.folder
    tables = {name: verified.read_table(folder.table(name)) for name in ("summary", "operating_points")}
    pages = {name: folder.report_of(k, name) for k, name in enumerate(LOWEST, 1)}
    losses = figures.training(verified.read_table(folder.fold(0).epochs))
    page = overview_page(run, tables, pages, {name: folder.figures / f"{name}.parquet" for name in LOWEST}, losses)
    words = " ".join(re.sub(r"<[^>]+>", " ", page).replace("\N{NO-BREAK SPACE}", " ").split())
    points = tables["operating_points"].query("operating_point == 'youden'").set_index(["class", "metric"])
    for name in LOWEST:
        value, low, high = 100 * points.loc[(name, "sensitivity"), ["value", "ci_low", "ci_high"]].to_numpy(float)
        assert not np.isnan(value)
        assert f"60.0 [50.0, 70.0] {value:.1f} [{low:.1f}, {high:.1f}]" in words
    assert "Not shown to be better than acquisition alone: virus." in words
    assert "Figure 1. Training loss" in words
    assert "config, SHA-256" in words
