"""The page as Streamlit runs it: which views there are, and what stands on each."""

import sys
from collections.abc import Callable
from importlib import import_module

import streamlit as st
from PIL import Image, ImageDraw

from app.server import Folders
from app.words import DISCLAIMER


def icon() -> Image.Image:
    """Return a pair of lungs for the browser's tab; an icon by name would be fetched from the network."""
    picture = Image.new("L", (64, 64), 40)
    draw = ImageDraw.Draw(picture)
    for left in (10, 35):
        draw.ellipse((left, 8, left + 19, 56), fill=200)
    return picture


def view(name: str) -> Callable[[], None]:
    """Return what shows a view; the libraries that it alone needs are imported when it is first opened."""
    return lambda: import_module(f"app.{name}").show(folders)


st.set_page_config(page_title="cxr", page_icon=icon(), layout="wide")
folders = Folders.of(sys.argv[1:])
icons = {"classify": "pulmonology", "runs": "monitoring", "scoring_runs": "bedtime", "models": "deployed_code"}
views = [
    st.Page(
        view(name),
        title=name.replace("_", " ").capitalize(),
        icon=f":material/{picture}:",
        url_path=name,
        default=name == "classify",
    )
    for name, picture in icons.items()
]
chosen = st.navigation(views, position="hidden")
with st.container(horizontal=True, gap="xsmall"):  # Streamlit's own would cover a narrow screen until it is closed
    for one in views:
        st.page_link(one, width="content")
st.warning(DISCLAIMER, icon=":material/science:")
chosen.run()
