import html
import json
import re

import pandas as pd
import pytest

from cxr.report.cells import Cells
from cxr.report.wording import in_words

TABLE = pd.DataFrame(
    {
        "class": ["a", "a", None],
        "metric": ["x", "y", "x"],
        "value": [0.12345, None, 1.0],
        "low": [0.1, None, None],
        "high": [0.2, None, None],
        "sd": [0.01, None, 0.1],
    }
)
CELLS = Cells({"t": ("metrics/t.parquet", TABLE)}, {"data.json": {"images": {"used": 5824}, "folds": [{"n": 7}]}})


def text(markup: str) -> str:
    return html.unescape(re.sub(r"<[^>]+>", "", markup)).replace("\N{NO-BREAK SPACE}", " ")


def test_a_number_is_shown_with_its_interval_or_its_deviation_and_says_where_it_is_from() -> None:
    at = {"class": "a", "metric": "x"}
    shown = CELLS.number("t", ["value", "low", "high"], at)
    assert text(shown) == "12.3 [10.0, 20.0]"
    told = re.search(r'data-from="([^"]*)"', shown)
    assert told is not None
    source = {"file": "metrics/t.parquet", "where": at, "columns": ["value", "low", "high"], "scale": 100}
    assert json.loads(html.unescape(told[1])) == source
    assert text(CELLS.number("t", ["value", "sd"], at, scale=1, decimals=2)) == "0.12 ± 0.01"
    assert text(CELLS.number("t", ["value"], at, sign=True)) == "+12.3"


def test_what_is_missing_is_a_dash() -> None:
    assert text(CELLS.number("t", ["value", "low", "high"], {"class": "a", "metric": "y"})) == "–"
    assert text(CELLS.number("t", ["value", "low", "high"], {"class": None})) == "100.0 [–]"


def test_what_rounds_to_0_has_no_sign() -> None:
    assert in_words([-0.0001], scale=1, decimals=3) == "0.000"
    assert in_words([-0.1], scale=1) == "-0.1"


def test_numbers_of_facts_have_commas_and_what_never_occurred_is_0() -> None:
    assert text(CELLS.fact("data.json", "images", "used")) == "5,824"
    assert text(CELLS.fact("data.json", "images", "unreadable")) == "0"
    assert text(CELLS.fact("data.json", "folds", 0, "n")) == "7"


def test_a_number_that_could_be_any_of_several_is_refused() -> None:
    with pytest.raises(LookupError, match="one row of t is wanted, 2 have"):
        CELLS.number("t", ["value"], {"metric": "x"})
