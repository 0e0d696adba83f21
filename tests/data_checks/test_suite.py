import os

import numpy as np
import pandas as pd
import pytest

from cxr.verdict import Verdict
from data_checks.expect import all_of, between, one_of, unique
from data_checks.suite import MAX_NAMED, Table, open_context, run_suite

TABLE = Table("wards", "one row per ward", ("ward",))
ROWS = pd.DataFrame({"ward": ["a", "b", "c"], "beds": [1, 20, 3], "share": [0.5, np.nan, 1.5]})


def verdict(*expectations: object, rows: pd.DataFrame = ROWS) -> Verdict:
    return run_suite(open_context(), TABLE, rows, expectations)  # pyright: ignore[reportArgumentType]


def test_a_verdict_names_the_offending_rows_and_keeps_the_worst_severity() -> None:
    found = verdict(
        between("beds", "warning", "No ward has more than 10 beds.", most=10),
        unique("ward", "critical", "Every ward has one row."),
        between("share", "info", "Shares are at most 1.", most=1),
    )
    assert (found.table, found.grain, found.highest_failed) == ("wards", "one row per ward", "warning")
    assert [finding.severity for finding in found.findings] == ["critical", "warning", "info"]
    _, beds, share = found.findings
    assert beds.unexpected == [{"ward": "b", "value": 20}]
    assert (beds.sentence, beds.n_rows, beds.n_unexpected) == ("No ward has more than 10 beds.", 3, 1)
    assert (share.n_rows, share.n_unexpected) == (2, 1), "a missing value is not checked"
    assert type(beds.unexpected[0]["value"]) is int, "JSON can hold it"


def test_failed_expectations_come_first_within_a_severity() -> None:
    found = verdict(
        between("beds", "warning", "passes", least=0), between("beds", "warning", "fails", most=10), rows=ROWS
    )
    assert [finding.sentence for finding in found.findings] == ["fails", "passes"]


def test_a_suite_that_passes_has_no_worst_severity() -> None:
    assert verdict(unique("ward", "critical", "Every ward has one row.")).highest_failed is None


def test_values_that_do_not_occur_are_named() -> None:
    (finding,) = verdict(all_of("ward", "critical", "Every ward is there.", ["a", "z"])).findings
    assert not finding.passed
    assert finding.unexpected == [{"value": "z"}]
    assert finding.n_unexpected == 1


def test_a_column_that_is_missing_fails_and_says_so() -> None:
    (finding,) = verdict(one_of("nurses", "critical", "Every ward has nurses.", [True])).findings
    assert not finding.passed
    assert "nurses" in finding.examples(1)


def test_all_offending_rows_are_counted_and_the_first_are_named() -> None:
    n_rows = MAX_NAMED + 5
    rows = pd.DataFrame({"ward": [f"w{k}" for k in range(n_rows)], "beds": 99})
    (finding,) = verdict(between("beds", "warning", "No ward has more than 10 beds.", most=10), rows=rows).findings
    assert finding.n_unexpected == n_rows
    assert len(finding.unexpected) == MAX_NAMED


def test_nothing_is_sent_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GX_ANALYTICS_ENABLED", raising=False)
    context = open_context()
    assert os.environ["GX_ANALYTICS_ENABLED"] == "false"
    assert not context.get_site_names()
