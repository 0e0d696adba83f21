"""The files of a batch that a scoring run names: images in a grid, quarantined files in a table with pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from app import gallery, tables, words
from app.gallery import PICTURE_PX, Tile
from cxr.classes import REFER
from cxr.report.markup import THUMBNAIL_PX, thumbnail
from cxr.serving.scoring.pictures import find_picture

HIDDEN = ["n_bytes", "changed_ns", "image_id"]
ROW_PX = 64
"""Height of a row with a picture."""
Rows = Sequence[Mapping[str, Any]]
"""As a scoring run's record lists files."""


def show_images(title: str, inbox: str, batch: str, rows: Rows, probability_of: str | None) -> None:
    """Show images with their predictions; nothing if there are none.

    Args:
        title: what they have in common.
        inbox: of the scoring run.
        batch: the batch that they are in.
        rows: of the images.
        probability_of: the class of their probabilities; None where each is of another one.
    """
    if not rows:
        return
    st.markdown(f"**{title}**")
    shown = rows[gallery.choose_page(f"{batch}, {title}", len(rows))]
    found = zip(shown, pictures(inbox, batch, shown, PICTURE_PX), strict=True)
    gallery.show([Tile(picture, *_describe(row, probability_of), f"Image {row['path']}") for row, picture in found])


def _describe(row: Mapping[str, Any], probability_of: str | None) -> tuple[str, str]:
    """Return an image's title and caption; no class where it is referred, or unlike the training images."""
    known = ["used to make the model"] if row["in_training"] else []
    lines = [*known, words.escape(row["path"])]
    if row.get("unlike_training"):
        return words.UNLIKE_TRAINING, "  \n".join(lines)
    name = "probability" if probability_of is None else words.escape(probability_of)
    facts = f"{name}: {words.chance(row['probability'])}; the folds differ by {100 * row['fold_spread']:.1f} points"
    title = words.REFERRED if row.get("answer") == REFER else words.escape(row["predicted_label"])
    return title, "  \n".join([facts, *lines])


def show_quarantined(inbox: str, batch: str, rows: Rows) -> None:
    """Show the quarantined files with their reasons, and a picture of each that can be decoded."""
    if not rows:
        return
    st.markdown("**Quarantined**")
    table = pd.DataFrame(rows).drop(columns=HIDDEN)
    table.insert(0, "picture", pictures(inbox, batch, rows, THUMBNAIL_PX))
    tables.show(table, "Quarantined files, each with the reason", row_height=ROW_PX)


@st.cache_data(max_entries=64, ttl="10m", show_spinner="Reading the images …")
def pictures(inbox: str, batch: str, rows: Rows, size_px: int) -> list[str | None]:
    """Return pictures, of at most `size_px` a side, as data URIs; None for a file that `find_picture` finds none of.

    They are read again after ten minutes, as the files of a disk that was away may be back.
    """
    found = [find_picture(Path(inbox), batch, row, size_px) for row in rows]
    return [picture and thumbnail(picture.grey, size_px) for picture in found]
