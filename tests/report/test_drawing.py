import re
from xml.etree import ElementTree

import pandas as pd

from cxr.report.drawing import INK, SVG, Figure, draw

TABLE = pd.DataFrame({"x": [0, 1], "y": [0.25, 0.75]})


def bars(name: str = "bars", caption: str = "Bars", description: str = "Two bars") -> Figure:
    return draw(name, caption, description, TABLE, lambda axes, rows: axes.bar(rows["x"], rows["y"], clip_on=True))


def test_a_figure_has_a_title_and_a_description_that_a_screen_reader_finds() -> None:
    figure = bars(caption="Bars & more", description="0.25 < 0.75")
    root = ElementTree.fromstring(figure.svg)  # noqa: S314 our own
    by_id = {element.get("id"): element.text for element in root}
    assert root.get("role") == "img"
    assert root.get("aria-labelledby") == "bars-title bars-desc"
    assert by_id["bars-title"] == "Bars & more"
    assert by_id["bars-desc"] == "0.25 < 0.75"


def test_a_figure_is_drawn_when_it_is_first_asked_for_and_once() -> None:
    drawn: list[str] = []
    figure = draw("bars", "Bars", "Two bars", TABLE, lambda axes, rows: drawn.append(axes.name))
    assert drawn == []
    assert figure.svg == figure.svg
    assert drawn == ["rectilinear"]


def test_two_figures_on_a_page_share_no_id_and_refer_to_their_own() -> None:
    first, second = (set(re.findall(r'\bid="([^"]+)"', bars(name).svg)) for name in ("first", "second"))
    assert not first & second
    used = set(re.findall(r"url\(#([^)]+)\)", bars("first").svg)) | set(
        re.findall(r'href="#([^"]+)"', bars("first").svg)
    )
    assert used <= first


def test_text_takes_the_colour_of_the_page_and_the_size_is_left_to_it() -> None:
    svg = bars().svg
    assert INK not in svg
    assert "currentColor" in svg
    root = ElementTree.fromstring(svg)  # noqa: S314 our own
    assert root.get("width") is None
    assert root.get("viewBox")
    assert root.tag == f"{{{SVG}}}svg"


def test_the_same_table_gives_the_same_bytes() -> None:
    assert bars().svg == bars().svg


def test_a_hostile_caption_stays_text() -> None:
    figure = bars(caption="</title><script>alert(1)</script>")
    assert "<script" not in figure.svg
