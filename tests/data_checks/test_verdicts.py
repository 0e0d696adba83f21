import logging
import shutil
from pathlib import Path

import pandas as pd
import pytest

from cxr.errors import ChecksFailedError
from cxr.storage.run_folder import RunFolder
from cxr.verdict import Finding, Severity, Verdict
from data_checks.tolerances import Tolerances
from data_checks.verdicts import expectations_table, log_failed, read_verdicts, require, write_verdicts
from tests.support.runs import small_config


def finding(severity: Severity, *, passed: bool, column: str | None = "width") -> Finding:
    unexpected = [] if passed else [{"path": "a.png", "value": 3}]
    return Finding("between", column, severity, passed, f"Widths are {severity}.", 10, len(unexpected), unexpected)


def verdict(table: str, *findings: Finding) -> Verdict:
    return Verdict(table, "one row per image", "critical", list(findings))


GOOD = verdict("manifest", finding("critical", passed=True), finding("warning", passed=False))
BAD = verdict("folds", finding("critical", passed=False), finding("critical", passed=False, column=None))


def test_a_run_goes_on_unless_something_critical_failed() -> None:
    require([], Path("report.html"))
    require([GOOD], Path("report.html"))
    with pytest.raises(ChecksFailedError) as error:
        require([GOOD, BAD], Path("report.html"))
    assert str(error.value).startswith("the checks stop here: folds: Widths are critical. Exceptions: ")
    assert str(error.value).endswith(" (and 1 more). See report.html.")


def test_each_expectation_is_a_row_whether_it_failed_or_not() -> None:
    table = expectations_table([GOOD, BAD])
    assert table[["table", "severity", "passed"]].to_numpy().tolist() == [
        ["manifest", "critical", True],
        ["manifest", "warning", False],
        ["folds", "critical", False],
        ["folds", "critical", False],
    ]
    assert table["column"].isna().tolist() == [False, False, False, True]
    assert table["n_unexpected"].tolist() == [0, 1, 1, 1]


def test_only_what_failed_is_logged_at_its_level(caplog: pytest.LogCaptureFixture) -> None:
    log_failed([GOOD, BAD])
    assert [record.levelno for record in caplog.records] == [logging.WARNING, logging.ERROR, logging.ERROR]
    assert caplog.messages[0].startswith("warning: manifest: Widths are warning. Exceptions: ")


def test_verdicts_are_read_in_the_order_of_the_report_whenever_they_were_written(
    sample: Path, examined: Path, tmp_path: Path
) -> None:
    folder = RunFolder(Path(shutil.copytree(examined / "run", tmp_path / "run")))
    config = small_config(sample)
    assert read_verdicts(folder) == []
    write_verdicts(folder, config, [BAD], Tolerances())
    write_verdicts(folder, config, [GOOD], Tolerances())
    assert read_verdicts(folder) == [GOOD, BAD]
    pd.testing.assert_frame_equal(pd.read_parquet(folder.expectations), expectations_table([GOOD, BAD]))
    assert "Widths are critical." in folder.checks_report.read_text(encoding="utf-8")
