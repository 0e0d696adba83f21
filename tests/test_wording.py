import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from cxr.errors import ConfigError, FoldFailedError, UnreadableError
from cxr.wording import (
    display_name,
    format_estimate,
    format_folder_time,
    format_p,
    format_time,
    markdown,
    percent,
    visible,
)
from tests.support.legibility import SPACED_PERCENT
from tests.support.processes import PROJECT

NAN = float("nan")
READ = {"app", "cxr", "data_checks", "deployments", "docs", "flows", "tasks"}


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("roc_auc", "ROC-AUC"),
        ("half", "0.5"),
        ("sensitivity_95", "sensitivity ≥ 0.95"),
        ("balanced_accuracy", "balanced accuracy"),
        ("macro roc_auc", "macro ROC-AUC"),
        ("accuracy", "accuracy"),
    ],
)
def test_a_name_of_a_table_is_shown_as_a_person_writes_it(name: str, shown: str) -> None:
    assert display_name(name) == shown


def test_a_value_is_shown_with_its_interval_or_its_standard_deviation() -> None:
    assert format_estimate(0.9123) == "91.2"
    assert format_estimate(0.9123, 0.8901, 0.9312) == "91.2 [89.0, 93.1]"
    assert format_estimate(0.9123, sd=0.0049) == "91.2 ± 0.5"
    assert format_estimate(1234.5678, scale=1, decimals=2) == "1,234.57"
    assert format_estimate(0.0123, -0.0456, 0.0702, sign=True) == "+1.2 [-4.6, +7.0]"
    assert format_estimate(0.9123, 0.8901, 0.9312, unit="%") == "91.2% [89.0, 93.1]"
    assert format_estimate(NAN, unit="%") == "–"


def test_a_share_that_somebody_chose_is_in_percent_with_all_its_digits() -> None:
    assert [percent(share) for share in (0.2, 0.07, 0.005, 0.125, 0.985)] == ["20%", "7%", "0.5%", "12.5%", "98.5%"]


def texts_that_people_read() -> Iterator[Path]:
    """Templates, pages of the documentation, and sources, whose strings are messages, captions and `--help`."""
    yield from (PROJECT / "README.md", PROJECT / "CHANGELOG.md")
    for folder in sorted(READ):
        found = ((PROJECT / folder).rglob(f"*.{ending}") for ending in ("py", "j2", "md", "toml", "yaml"))
        yield from (path for path in chain.from_iterable(found) if "_build" not in path.parts)


def test_no_space_stands_before_a_percent_sign_anywhere() -> None:
    for text in ("with 95 % confidence", "at {{ level }}&nbsp;%<"):
        assert re.search(SPACED_PERCENT, text)
    assert not re.search(SPACED_PERCENT, "95% of 5, 20 and 50%; `k // 2 % 2`; {{ a }} %} {% if b == 1 %}; ROC-AUC, %")
    spaced = [
        f"{path.relative_to(PROJECT)}: {found[0]}"
        for path in texts_that_people_read()
        for found in re.finditer(rf".{{0,40}}{SPACED_PERCENT}", path.read_text())
    ]
    assert spaced == []


def test_what_is_undefined_is_a_dash() -> None:
    assert format_estimate(NAN) == format_estimate(None) == format_estimate(NAN, NAN, NAN) == "–"
    assert format_estimate(NAN, sd=0.1) == "–"
    assert format_estimate(1.0, NAN, NAN) == "100.0 [–]"
    assert format_estimate(0.5, sd=NAN) == "50.0 ± –"


def test_a_scoring_run_is_named_by_its_minute() -> None:
    assert format_folder_time("2026-11-26T02-00-07Z") == "2026-11-26 02:00"


def test_a_p_value_is_shown_to_three_decimals_and_not_below_that() -> None:
    assert [format_p(p) for p in (1.0, 0.0123, 0.001, 0.0004, 6e-7)] == [
        "1.000",
        "0.012",
        "0.001",
        "< 0.001",
        "< 0.001",
    ]
    assert format_p(None) == format_p(NAN) == "–"


def test_what_rounds_to_0_has_no_sign() -> None:
    assert format_estimate(-0.0001, scale=1, decimals=3) == "0.000"
    assert format_estimate(-0.1, scale=1) == "-0.1"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Neumonía, größer → 7", "Neumonía, größer → 7"),
        ("a\nb\r\tc", "a\\nb\\r\\tc"),
        ("\x1b[2J\x07\x9b", "\\x1b[2J\\x07\\x9b"),
        ("gepj.\u202eevil\u2066\u2069\u200b", "gepj.\\u202eevil\\u2066\\u2069\\u200b"),
        ("\udcff.jpeg", "\\udcff.jpeg"),
        ("line\u2028line\x85line", "line\\u2028line\\x85line"),
    ],
)
def test_what_is_not_shown_is_shown_as_its_escape_and_the_rest_stays(name: str, shown: str) -> None:
    assert visible(name) == shown
    assert visible(shown) == shown
    assert len(visible(name).splitlines()) == 1


@pytest.mark.parametrize(
    "name",
    [
        "![x](http:&sol;&sol;evil.example&sol;x.png)",
        "![x][y]\n\n[y]: http://evil.example",
        "<img src=//evil.example>",
        "[a](javascript:alert(1))",
        "<http://evil.example>",
        "# a | b `c` *d* _e_",
        "COVID-19 (+)",
        "1. one",
    ],
)
def test_markdown_shows_a_name_letter_by_letter(name: str) -> None:
    (paragraph, inline, _) = MarkdownIt().enable("table").parse(markdown(name))
    assert paragraph.type == "paragraph_open"
    assert inline.children is not None
    assert {token.type for token in inline.children} <= {"text", "text_special"}
    assert "".join(token.content for token in inline.children) == visible(name)


def test_every_error_of_ours_is_one_line() -> None:
    name = "a\nERROR forged\x1b[2J"
    for error in (ConfigError(name), FoldFailedError(name), UnreadableError("damaged", name)):
        assert str(error).endswith("a\\nERROR forged\\x1b[2J")


def test_a_time_is_written_to_the_minute_in_utc() -> None:
    assert format_time("2026-11-27T09:23:25+00:00") == "2026-11-27 09:23 UTC"
    assert format_time("2026-11-27T01:23:25+02:00") == "2026-11-26 23:23 UTC"
