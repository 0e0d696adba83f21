"""Filters over images: the values of a column, a range of a probability, a part of the path."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd
import streamlit as st

from cxr.wording import visible

WIDTH_PX = 165
"""Of each filter: two stand side by side on a telephone."""


@dataclass(frozen=True)
class Filters:
    """What a visitor may filter images by; their paths always."""

    values: Mapping[str, str]
    """Columns of which values may be chosen, each with its label; left out where all images have the same value."""
    probabilities: Mapping[str, str] = field(default_factory=dict)
    """Columns of probabilities, 0 to 1, each with its label."""


def narrow(images: pd.DataFrame, filters: Filters, name: str) -> pd.DataFrame:
    """Show filters and return the images that pass all of them, in their order; at first, all do.

    Args:
        images: a row each, with a path and the columns of the filters.
        filters: which to show.
        name: of these images, unlike that of any others in the view.
    """
    kept = pd.Series(True, images.index)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        for column, label in filters.values.items():
            kept &= _choose_values(images[column], label, f"{name}, {column}")
        for column, label in filters.probabilities.items():
            kept &= _choose_range(images[column], label, f"{name}, {column}")
        part = st.text_input("The file's path contains", key=f"{name}, path", width=WIDTH_PX)
    return images[kept & images["path"].str.contains(part, case=False, regex=False)]


def _choose_values(column: pd.Series, label: str, key: str) -> pd.Series:
    """Return whether each image has one of the values that the visitor chooses; of none chosen, all do."""
    values = sorted(column.dropna().unique().tolist())
    if len(values) < 2:
        return pd.Series(True, column.index)
    chosen = st.multiselect(label, values, format_func=visible, placeholder="all", key=key, width=WIDTH_PX)
    return column.isin(chosen) if chosen else pd.Series(True, column.index)


def _choose_range(column: pd.Series, label: str, key: str) -> pd.Series:
    """Return whether each image's probability lies in the range that the visitor chooses, from 0 to 100% at first."""
    low, high = st.slider(label, 0, 100, (0, 100), format="%d%%", key=key, width=WIDTH_PX)
    return column.between(low / 100, high / 100)
