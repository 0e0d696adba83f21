"""Images of a run in a grid, with filters: what the sections Errors, Label suspects and Compare share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import streamlit as st

from app import filters, gallery, tables
from app.filters import Filters
from app.gallery import PICTURE_PX, Tile
from app.runs.results import HASHES
from cxr.config import TrainConfig
from cxr.dataset.pictures import find_pictures
from cxr.report.markup import thumbnail
from cxr.storage import verified
from cxr.storage.run_folder import RunFolder

Describe = Callable[[dict[Any, Any]], tuple[str, str]]
"""Returns an image's title and caption, in Markdown, from its row."""
HIDDEN = ["image_id", "is_suspect"]


@dataclass(frozen=True)
class Section:
    """A section of a run that is about some of its images."""

    title: str
    none: str
    """What is said where there is no such image; `{of}` stands for the number of all images."""
    some: str
    """What is said where there are `{n}` of `{of}` images; in Markdown, as is the note."""
    note: str
    filters: Filters
    describe: Describe


def show_section(section: Section, folder: RunFolder, finding: str | None, images: pd.DataFrame, of: int) -> None:
    """Show a section: how many images it is about, and these in a grid.

    Args:
        section: which.
        folder: of the run.
        finding: that the images are looked at for; None for classes.
        images: as for `show`.
        of: the number of all images.
    """
    st.subheader(section.title)
    if images.empty:
        st.info(section.none.format(of=of))
        return
    st.markdown(section.some.format(n=len(images), of=of))
    st.caption(section.note)
    show(folder, images, section.filters, f"{section.title}, {folder.run_id}, {finding}", section.describe)


@st.fragment
def show(folder: RunFolder, images: pd.DataFrame, what: Filters, name: str, describe: Describe) -> None:
    """Show images as filters, a grid and a table; a filter that is set computes these anew and nothing else.

    Args:
        folder: of the run.
        images: a row each: path, image_id, and the columns of the filters.
        what: they may be filtered by.
        name: of these images, unlike that of any others that the visitor may look at.
        describe: an image.
    """
    shown = filters.narrow(images, what, name)
    if len(shown) < len(images):
        st.caption(f"{len(shown):,} of {len(images):,} images pass the filters.")
    page = shown.iloc[gallery.choose_page(name, len(shown))]
    found = pictures(folder, list(zip(page["path"], page["image_id"], strict=True)))
    rows = page.to_dict("records")
    gallery.show([_tile(row, picture, describe) for row, picture in zip(rows, found, strict=True)])
    with st.expander("The same as a table"):
        tables.show(shown.drop(columns=HIDDEN, errors="ignore"), "The images that pass the filters")


def _tile(row: dict[Any, Any], picture: str | None, describe: Describe) -> Tile:
    title, caption = describe(row)
    return Tile(picture, title, caption, f"Image {row['path']}")


@st.cache_data(max_entries=64, ttl="10m", show_spinner="Reading the images …", hash_funcs=HASHES)
def pictures(folder: RunFolder, images: Sequence[tuple[str, str]]) -> list[str | None]:
    """Return pictures as data URIs; None for an image that is gone, was changed or cannot be decoded.

    They are read again after ten minutes, as the images of a disk that was away may be back.

    Args:
        folder: of the run.
        images: path and image_id of each.
    """
    if not images:
        return []
    config = TrainConfig.from_dict(verified.read_record(folder.config)["config"])
    found = find_pictures(config, images, PICTURE_PX)
    return [picture and thumbnail(picture.grey, PICTURE_PX) for picture in found]
