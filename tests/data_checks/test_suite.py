import logging
import os
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxr.verdict import Verdict
from data_checks.expect import absent, all_of, between, matching, one_of, present, unique
from data_checks.suite import MAX_NAMED, Table, build_pages, open_context, run_suite

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


# Great Expectations' own pages

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</td></table><iframe src=//evil.example>",
    "](javascript:alert(1)) ![x](http://evil.example/x.png)",
    "${HOME} $styling $$PARAMETER {{ 7 * 7 }} {% raw %}",
    "\\x3cscript\\x3ealert(1)",
    "ward\x1b[2J\n12:00:00 FORGED\u202e",
    "../../../../up/and/away",
    r"undecodable-\xff",
    "long" * 5000,
    "NUL\0byte",
]
PLAIN = [f"plain {number}" for number in range(len(HOSTILE))]
UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class Structure(HTMLParser):
    """Counts the tags of a page, each with the names of its attributes, and keeps its text."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.tags: Counter[tuple[str, ...]] = Counter()
        self.text = ""
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag, *(name for name, _ in attrs)] += 1

    def handle_data(self, data: str) -> None:
        self.text += data


def pages_of(names: list[str], folder: Path) -> dict[str, Structure]:
    """Write the pages of a suite of every kind that fails on names; return each page by its kind."""
    context = open_context(folder)
    twice = [*names, *names]
    rows = pd.DataFrame({"ward": twice, "value": twice, "beds": range(len(twice)), "empty": [None] * len(twice)})
    expectations = [
        one_of("value", "critical", "A value is known.", ["other", *names[1:]], mostly=1.0),
        all_of("value", "critical", f"{names[0]} occurs.", [*names, names[1] + "!"]),
        unique("ward", "critical", "Every ward has one row."),
        present("empty", "warning", "A value is there."),
        absent("value", "warning", f"No {names[1]} is there."),
        matching("value", "warning", "A value is a number.", r"^\d+$"),
        between("beds", "info", "Beds are few.", most=3),
        one_of("nurses", "critical", "Every ward has nurses.", [True]),
    ]
    run_suite(context, Table("wards", "one row per ward", ("ward",)), rows, expectations)
    build_pages(context)
    found = {page.relative_to(folder).parts[0]: Structure(page) for page in folder.rglob("*.html")}
    assert set(found) == {"index.html", "expectations", "validations"}
    return found


def other_files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.suffix != ".html"}


def test_great_expectations_pages_show_foreign_names_and_take_none_for_markup(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hostile, plain = tmp_path / "hostile", tmp_path / "plain"
    with caplog.at_level(logging.WARNING):
        found, expected = pages_of(HOSTILE, hostile), pages_of(PLAIN, plain)
    assert not caplog.records
    assert {name: page.tags for name, page in found.items()} == {name: page.tags for name, page in expected.items()}
    assert "＜script＞alert(1)＜/script＞" in found["validations"].text
    for page in hostile.rglob("*.html"):
        assert not UNSEEN.search(page.read_text(encoding="utf-8"))
    assert other_files(hostile) == other_files(plain)
    assert {path.name for path in tmp_path.iterdir()} == {"hostile", "plain"}


def test_great_expectations_pages_are_written_into_a_folder_of_any_name(tmp_path: Path) -> None:
    folder = tmp_path / "$HOME ${nothing} \\$x {0} <b>" / "pages"
    pages_of(PLAIN, folder)
    assert [path.name for path in tmp_path.iterdir()] == [folder.parent.name]
