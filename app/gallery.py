"""A grid of images, a page at a time, as the views Classify, Runs and Scoring runs show it."""

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

PER_PAGE = 24
PICTURE_PX = 320
"""Longest side of a picture."""
CELL_PX = 140
"""Least width of a cell: two stand side by side on a telephone."""
IN_A_ROW = 6
"""Cells, at most."""


@dataclass(frozen=True)
class Tile:
    """A cell of the grid: an image and what is known of it."""

    picture: str | None
    """A data URI; None if the image is not available."""
    title: str
    """In Markdown, as is the caption."""
    caption: str
    alt: str
    """What the picture shows, for readers who do not see it."""


def choose_page(name: str, n_images: int) -> slice:
    """Return which images are on the page that the visitor chooses, at first the first page.

    Args:
        name: of the grid, unlike that of any other in the view.
        n_images: all that the grid may show.
    """
    n_pages = -(-n_images // PER_PAGE)
    page = st.pagination(n_pages, key=f"page, {name}, {n_images}") if n_pages > 1 else 1
    return slice(PER_PAGE * (page - 1), PER_PAGE * page)


def show(tiles: Sequence[Tile]) -> None:
    """Show images in a grid, and how many of them are not available."""
    grid = st.grid(IN_A_ROW, min_column_width=CELL_PX, gap="xsmall", border=True)
    for tile in tiles:
        with grid.cell():
            show_picture(tile.picture, tile.alt)
            st.markdown(f"**{tile.title}**")
            st.caption(tile.caption)
    n_missing = sum(tile.picture is None for tile in tiles)
    if n_missing:
        st.caption(f"{n_missing} of these {len(tiles)} images are not available: moved, deleted or changed since.")


def show_picture(picture: str | None, alt: str) -> None:
    """Show a picture as wide as its place, or that there is none."""
    if picture is None:
        st.caption("not available")
    else:
        st.image(picture, width="stretch", alt=alt)
