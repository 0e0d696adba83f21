from pathlib import Path

import pandas as pd

from cxr.storage import verified
from cxr.storage.run_folder import RunFolder
from tasks.evaluation import _markdown


def test_the_summary_has_a_row_for_each_metric_and_a_dash_for_what_is_missing() -> None:
    columns = ["metric", "mean", "sd", "pooled", "ci_low", "ci_high", "starting_project"]
    rows = [
        ("accuracy", 94.1, 0.4, 94.0, 93.1, 94.8, 91.5),
        ("mcc", 85.0, float("nan"), 84.9, 83.0, 86.6, float("nan")),
    ]
    lines = _markdown(RunFolder(Path("experiments/first")), pd.DataFrame(rows, columns=columns)).splitlines()
    assert lines[0] == "# Run first: out-of-fold metrics, %"
    assert lines[3:5] == [
        "| accuracy | 94.1 ± 0.4 | 94.0 [93.1, 94.8] | 91.5 |",
        "| mcc | 85.0 ± – | 84.9 [83.0, 86.6] | – |",
    ]
    assert "not a medical device" in lines[-1]
    alone = _markdown(RunFolder(Path("experiments/first")), pd.DataFrame(rows, columns=columns).iloc[1:]).splitlines()
    assert alone[3] == "| mcc | 85.0 ± – | 84.9 [83.0, 86.6] |", "no column for a project that is of other images"
    assert not any("cluster" in line for line in lines)


def test_the_summary_of_a_run_of_clusters_says_so(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "first")
    verified.write_table(folder.table("cluster_metrics"), pd.DataFrame({"value": [0.9]}))
    assert "Each fold left out a cluster of images acquired alike" in _markdown(folder, pd.DataFrame())
