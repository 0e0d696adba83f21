import html
import json
import re

import pandas as pd
import pytest

from cxr.report.cells import Cells

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


def test_a_number_is_shown_with_its_interval_or_its_standard_deviation_and_names_its_source() -> None:
    at = {"class": "a", "metric": "x"}
    shown = CELLS.number("t", ["value", "low", "high"], at)
    assert text(shown) == "12.3 [10.0, 20.0]"
    attribute = re.search(r'data-from="([^"]*)"', shown)
    assert attribute is not None
    source = {"file": "metrics/t.parquet", "where": at, "columns": ["value", "low", "high"], "scale": 100}
    assert json.loads(html.unescape(attribute[1])) == source
    assert text(CELLS.number("t", ["value", "sd"], at, scale=1, decimals=2)) == "0.12 ± 0.01"
    assert text(CELLS.number("t", ["value"], at, sign=True)) == "+12.3"
    assert text(CELLS.number("t", ["value"], at, scale=-100)) == "\N{MINUS SIGN}12.3"


def test_a_missing_value_is_a_dash() -> None:
    assert text(CELLS.number("t", ["value", "low", "high"], {"class": "a", "metric": "y"})) == "–"
    assert text(CELLS.number("t", ["value", "low", "high"], {"class": None})) == "100.0 [–]"


def test_integers_have_commas_and_a_missing_count_is_0() -> None:
    assert text(CELLS.fact("data.json", "images", "used")) == "5,824"
    assert text(CELLS.fact("data.json", "images", "unreadable")) == "0"
    assert text(CELLS.fact("data.json", "folds", 0, "n")) == "7"


def test_a_number_that_several_rows_could_give_is_refused() -> None:
    with pytest.raises(LookupError, match=r"exactly one row of t must match \{'metric': 'x'\}, got 2"):
        CELLS.number("t", ["value"], {"metric": "x"})


def test_a_hostile_class_name_stays_inside_the_attribute_and_the_text() -> None:
    name = '"><script>alert(1)</script>'
    cells = Cells({"t": (f"{name}.parquet", pd.DataFrame({"class": [name], "value": [0.5]}))}, {})
    shown = cells.number("t", ["value"], {"class": name})
    assert "<script" not in shown
    assert shown.count('"') == 2, "the attribute's own"
    attribute = re.search(r'data-from="([^"]*)"', shown)
    assert attribute is not None
    assert json.loads(html.unescape(attribute[1]))["where"] == {"class": name}


def test_rows_have_none_for_what_is_missing() -> None:
    assert CELLS.rows("t", **{"class": "a", "metric": "y"}) == [
        {"class": "a", "metric": "y", "value": None, "low": None, "high": None, "sd": None}
    ]
    assert [row["metric"] for row in CELLS.rows("t", **{"class": None})] == ["x"]
