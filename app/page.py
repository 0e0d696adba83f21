"""The page as Streamlit runs it: which views there are, and what stands on each."""

import sys
from functools import partial

import streamlit as st
from PIL import Image, ImageDraw

from app import classify, models, nightly, runs
from app.server import Places
from app.words import DISCLAIMER


def icon() -> Image.Image:
    """Return a pair of lungs for the browser's tab; an icon by name would be fetched from the network."""
    picture = Image.new("L", (64, 64), 40)
    draw = ImageDraw.Draw(picture)
    for left in (10, 35):
        draw.ellipse((left, 8, left + 19, 56), fill=200)
    return picture


st.set_page_config(page_title="cxr", page_icon=icon(), layout="wide")
places = Places.of(sys.argv[1:])
views = [
    st.Page(
        partial(classify.show, places),
        title="Classify",
        icon=":material/pulmonology:",
        url_path="classify",
        default=True,
    ),
    st.Page(partial(runs.show, places), title="Runs", icon=":material/monitoring:", url_path="runs"),
    st.Page(partial(nightly.show, places), title="Nightly", icon=":material/bedtime:", url_path="nightly"),
    st.Page(partial(models.show, places), title="Models", icon=":material/deployed_code:", url_path="models"),
]
view = st.navigation(views, position="hidden")
with st.container(horizontal=True, gap="xsmall"):  # Streamlit's own would cover a narrow screen until it is closed
    for one in views:
        st.page_link(one, width="content")
st.warning(DISCLAIMER, icon=":material/science:")
view.run()
