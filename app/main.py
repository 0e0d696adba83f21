"""The page as Streamlit runs it: its views, and what every view shows."""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path

import streamlit as st
from PIL import Image, ImageDraw

PROJECT = str(Path(__file__).parents[1])
if sys.path[0] != PROJECT:
    sys.path.insert(0, PROJECT)  # Streamlit puts this file's own folder there, and finds anybody's `app` after it

from app.server import Folders  # noqa: E402
from cxr.errors import CxrError  # noqa: E402
from cxr.wording import DISCLAIMER, markdown  # noqa: E402

# The views, in the order of their links; each is the module `view` in the folder of that name, the first the default.
# No string may stand alone in this file: Streamlit shows it on the page.
ICONS = {"classify": "pulmonology", "runs": "monitoring", "scoring_runs": "bedtime", "models": "deployed_code"}


# Streamlit draws the axes of figures in a grey that is faint on white; so they get the colour of the text.
STYLE = """<style>
.js-plotly-plot :is(.xtick text, .ytick text, .annotation text, .xtitle, .ytitle) {fill: currentColor !important}
</style>"""


def draw_icon() -> Image.Image:
    """Return a pair of lungs for the browser's tab; an icon by name would be fetched from the network."""
    picture = Image.new("L", (64, 64), 40)
    draw = ImageDraw.Draw(picture)
    for left in (10, 35):
        draw.ellipse((left, 8, left + 19, 56), fill=200)
    return picture


def view_of(module: str, folders: Folders) -> Callable[[], None]:
    """Return a function that shows a view, or why it cannot be shown.

    The libraries that only this view needs are imported when it is opened.
    """

    def show() -> None:
        try:
            import_module(f"app.{module}.view").show(folders)
        except CxrError as error:
            st.error(markdown(error))

    return show


def _follow_link(pages: Mapping[str, st.Page]) -> None:
    """Open the view that the visitor's address names, once: who goes back from there stays on the first view."""
    view = st.query_params.get("view", "")
    if view in pages and "led" not in st.session_state:
        st.session_state["led"] = True
        st.switch_page(pages[view])


def show(folders: Folders) -> None:
    """Show the chosen view, with links to all of them and the disclaimer above it."""
    st.set_page_config(page_title="cxr", page_icon=draw_icon(), layout="wide")
    pages = {
        module: st.Page(
            view_of(module, folders),
            title=module.replace("_", " ").capitalize(),
            icon=f":material/{icon}:",
            url_path=module,
            default=module == next(iter(ICONS)),
        )
        for module, icon in ICONS.items()
    }
    chosen = st.navigation(list(pages.values()), position="hidden")
    _follow_link(pages)
    st.html(STYLE)
    with st.container(horizontal=True, gap="xsmall"):  # Streamlit's own menu covers a narrow screen until it is closed
        for page in pages.values():
            st.page_link(page, width="content")
    st.warning(DISCLAIMER, icon=":material/science:")
    chosen.run()


if __name__ == "__main__":
    show(Folders.from_arguments(sys.argv[1:]))
