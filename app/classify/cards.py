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


def choose_image(decision: Decision, scored: Sequence[Scored]) -> Scored:
    """Show a card for each image; return the image that the visitor looks at closer, at first the first one."""
    st.subheader(f"{len(scored)} images")
    opened = next((item for item in scored if id(item.image) == st.session_state.get(OPENED)), scored[0])
    page = scored[gallery.choose_page("cards", len(scored))]
    grid = st.grid(min_column_width=CARD_PX, border=True)
    for item in page:
        with grid.cell():
            _show_card(decision, item, is_opened=item is opened)
    return opened


def _show_card(decision: Decision, item: Scored, *, is_opened: bool) -> None:
    gallery.show_picture(item.image.picture, f"Image {item.image.name}")
    st.markdown(f"**{item.headline}**")
    for caution in prediction.cautions(decision.model, item):
        st.warning(caution)
    if not item.is_stranger:
        st.markdown(words.probability(decision.model.package.classes, item.prediction))
    st.caption(words.escape(item.image.name))
    st.button(
        "Shown below" if is_opened else "Look closer",
        key=f"card {id(item.image)}",
        disabled=is_opened,
        on_click=_open,
        args=(id(item.image),),
    )


def _open(image: int) -> None:
    st.session_state[OPENED] = image
