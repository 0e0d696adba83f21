"""Several images on the view Classify: a card for each, with what speaks against its prediction."""

from collections.abc import Sequence

import streamlit as st

from app import gallery, words
from app.classify import prediction
from app.classify.prediction import Decision, Scored

OPENED = "opened card"
"""Where the session keeps which image is looked at closer."""
CARD_PX = 260
"""Least width of a card."""


def show(decision: Decision, scored: Sequence[Scored]) -> None:
    """Show a card for each image, and below its row the image that the visitor looks at closer."""
    st.subheader(f"{len(scored)} images")
    page = scored[gallery.choose_page("cards", len(scored))]
    grid = st.grid(min_column_width=CARD_PX, border=True, dense=True)
    for item in page:
        is_opened = id(item.image) == st.session_state.get(OPENED)
        with grid.cell():
            _show_card(decision, item, is_opened=is_opened)
        if is_opened:
            with grid.cell(column_span="all"):
                prediction.show(decision, item)


def _show_card(decision: Decision, item: Scored, *, is_opened: bool) -> None:
    st.markdown(f"**{item.headline}**")
    prediction.show_cautions(decision.model, item)
    gallery.show_picture(item.image.picture, f"Image {item.image.name}")
    if not item.is_stranger:
        st.markdown(words.probability(decision.model.package.classes, item.prediction))
    st.caption(words.escape(item.image.name))
    st.button(
        "Close" if is_opened else "Look closer",
        key=f"card {id(item.image)}",
        on_click=_open,
        args=(None if is_opened else id(item.image),),
    )


def _open(image: int | None) -> None:
    st.session_state[OPENED] = image
