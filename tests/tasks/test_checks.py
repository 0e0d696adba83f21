import pandas as pd

from tasks.checks import _met, _rows

COLUMNS = ["table", "severity", "sentence", "passed", "n_unexpected"]


def test_an_artifact_counts_what_is_not_met_by_severity_and_lists_it() -> None:
    rows = [
        ("manifest", "info", "No image occurs twice.", False, 1200),
        ("manifest", "critical", "Every image has a label.", True, 0),
        ("manifest", "warning", "Every file can be read.", False, 1),
        ("folds", "warning", "Every fold has images of every class.", False, 2),
    ]
    table = pd.DataFrame(rows, columns=COLUMNS)
    assert _met(table) == "1 of 4 expectations are met, all but 2 warning, 1 info"
    assert "| info | manifest | No image occurs twice\\. | 1,200 |" in _rows(table[~table["passed"]]).splitlines()


def test_an_artifact_of_checks_that_are_all_met_has_no_empty_table() -> None:
    table = pd.DataFrame([("folds", "critical", "No fold is empty.", True, 0)], columns=COLUMNS)
    assert _met(table) == "1 of 1 expectations are met"
    assert _rows(table[~table["passed"]]) == ""
