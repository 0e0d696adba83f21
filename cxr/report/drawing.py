"""From a table to a figure: one SVG that goes into the report and into a file of its own.

Text stays text and takes the colour of the page, so figures follow light and dark mode. Every figure has a title and
a description in words, and ids that are unique on a page with several figures.
"""

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any
from xml.etree import ElementTree

import pandas as pd

from cxr.report.markup import COLOURS
from cxr.wording import visible

INK = "#010203"
"""Placeholder for the text colour of the page."""
MAX_NAME = 40
SVG = "http://www.w3.org/2000/svg"
XLINK = "http://www.w3.org/1999/xlink"
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "text.parse_math": False,  # a class may be named `$x$`
    "legend.frameon": False,
    "legend.fontsize": 8,
    "axes.prop_cycle": "cycler('color', ['" + "','".join(COLOURS) + "'])",
    "figure.constrained_layout.use": True,
}


@dataclass(frozen=True)
class Figure:
    """A figure and the numbers in it."""

    name: str
    caption: str
    description: str
    """What the figure shows, in words, for people who cannot see it."""
    table: pd.DataFrame
    draw_svg: Callable[[], str]

    @cached_property
    def svg(self) -> str:
        """The figure, drawn when it is first asked for: what else a page needs is read, or found damaged, before."""
        return self.draw_svg()


def legible(name: object, longest: int = MAX_NAME) -> str:
    """Return a name as a figure shows it: XML takes no control characters, and a legend leaves out `_names`.

    A longer name is cut in its middle, as it would leave no room for the axes.
    """
    text = visible(name)
    text = text if len(text) <= longest else f"{text[: longest - 12]}…{text[-11:]}"
    return f" {text}" if text.startswith("_") else text


def draw(
    name: str,
    caption: str,
    description: str,
    table: pd.DataFrame,
    plot: Callable[[Any, pd.DataFrame], None],
    *,
    width: float = 4.6,
    height: float = 3.6,
    grid: tuple[int, int] | None = None,
) -> Figure:
    """Return the figure that `plot` draws of the table once it is asked for.

    Args:
        name: of the figure's files, and prefix of its ids.
        caption: one line, without a full stop.
        description: what the figure shows, in words.
        table: the numbers that the figure shows.
        plot: called with the axes and the table; with an array of axes if there is a grid.
        width: in inches.
        height: in inches.
        grid: number of rows and columns of panels; None for a single panel.
    """
    drawing = partial(_plotted, name, table, plot, (width, height), grid)
    return Figure(name, caption, description, table, lambda: _accessible(drawing(), name, caption, description))


def _plotted(
    name: str,
    table: pd.DataFrame,
    plot: Callable[[Any, pd.DataFrame], None],
    size: tuple[float, float],
    grid: tuple[int, int] | None,
) -> str:
    """Return the SVG as matplotlib writes it; the arguments are those of `draw`."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure as Drawing

    stream = io.StringIO()
    style: dict[Any, Any] = STYLE | {"svg.hashsalt": name}
    with mpl.rc_context(style):
        figure = Drawing(figsize=size)
        canvas = FigureCanvasSVG(figure)
        plot(figure.subplots(*grid, sharey=True) if grid else figure.add_subplot(), table)
        canvas.print_svg(stream, metadata={"Date": None})  # lays out and draws in one pass; `savefig` needs two
    return stream.getvalue()


def _accessible(svg: str, name: str, caption: str, description: str) -> str:
    """Return the SVG with a title, a description, unique ids and the text colour of the page."""
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", XLINK)  # the prefix that HTML parsers know
    root = ElementTree.fromstring(svg)  # noqa: S314 our own drawing
    for metadata in root.findall(f"{{{SVG}}}metadata"):
        root.remove(metadata)
    for tag, text in (("desc", description), ("title", caption)):
        element = ElementTree.Element(f"{{{SVG}}}{tag}", {"id": f"{tag}"})
        element.text = visible(text)
        root.insert(0, element)
    for size in ("width", "height"):
        root.attrib.pop(size, None)
    root.attrib |= {"role": "img", "aria-labelledby": "title desc"}
    text = ElementTree.tostring(root, encoding="unicode")
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\1{name}-", text)
    text = text.replace('aria-labelledby="title desc"', f'aria-labelledby="{name}-title {name}-desc"')
    return text.replace(INK, "currentColor")
