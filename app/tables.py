"""Tables as people read them: columns named in words, numbers with the digits that they deserve, rows that open."""

from collections.abc import Iterable
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from cxr.wording import display_name, visible

NAMES = {
    "accuracy": "Accuracy, %",
    "at": "At (UTC)",
    "begun_at": "Begun (UTC)",
    "f1": "F1, %",
    "fold_spread": "Difference between folds",
    "folds": "Folds done",
    "force": "By force",
    "ci_high": "Upper bound, %",
    "ci_low": "Lower bound, %",
    "in_training": "Used to make the model",
    "leave_out": "Left out by a fold",
    "made_at": "Made (UTC)",
    "model_version": "Version",
    "judged_at": "Judged (UTC)",
    "effect": "Difference, 0 to 1",
    "elsewhere": "In the others",
    "n": "Images",
    "n_groups": "Patients",
    "n_images": "Images",
    "n_images_in_group": "Images of the patient",
    "n_patients": "Patients",
    "n_suspects_in_group": "Suspects of the patient",
    "name": "Model",
    "path": "File",
    "predicted_label": "Predicted",
    "prediction_set": "Classes that fit",
    "promised": "Promised ROC-AUC, %",
    "right": "Right",
    "roc_auc": "ROC-AUC, %",
    "scored_at": "Scored (UTC)",
    "self_confidence": "Probability of the label",
    "sensitivity": "Sensitivity, %",
    "size": "Input, px",
    "specificity": "Specificity, %",
    "thresholds": "Calibration and thresholds",
    "trainable": "Trained layers",
    "unlike_training": "Unlike the training images",
    "value": "In the cluster",
}
"""Headings of columns whose own names say too little."""
PREFIXES = {"probability_": "Probability", "predicted_": "Predicted", "called_": "Predicted"}
"""Of columns that end in the name of a class, a finding or a run."""
FORMATS: dict[str, str] = dict.fromkeys(
    ("accuracy", "ci_high", "ci_low", "f1", "promised", "roc_auc", "sensitivity", "specificity"), "%.1f"
)
FORMATS |= dict.fromkeys(("effect", "fold_spread", "novelty", "probability"), "%.3f") | {"self_confidence": "%.4f"}
COUNTS = ("images", "n", "n_groups", "n_images", "other_files", "quarantined")
"""Of images or files."""
TIMES = ("at", "begun_at", "judged_at", "made_at", "scored_at")


MISSING = "–"
"""Stands where a value is missing."""


def show(table: pd.DataFrame, alt: str, *, row_height: int | None = None) -> None:
    """Show a table without its index.

    Args:
        table: its columns have the names that they have on disk.
        alt: what it holds, for readers who do not see it.
        row_height: in pixels; None for one line of text.
    """
    shown = values_in_words(table)
    st.dataframe(
        shown,
        hide_index=True,
        column_config=headings(shown.columns),
        row_height=row_height,
        placeholder=MISSING,
        alt=alt,
    )


def choose_row(table: pd.DataFrame, name: str, alt: str) -> int:
    """Show a table of which one row is open; return the position of the row that the visitor clicked, at first 0.

    Args:
        table: as for `show`, with a row at least.
        name: of the table, unlike that of any other in the view.
        alt: as for `show`.
    """
    shown = values_in_words(table)
    key = f"{name} {len(table)}"  # a row that was added moves the others, so the first one is open again
    state = st.dataframe(
        shown,
        hide_index=True,
        column_config=headings(shown.columns),
        key=key,
        on_select=partial(_open_row_of_cell, key),
        selection_mode=["single-row-required", "single-cell"],
        placeholder=MISSING,
        alt=alt,
    )
    return state.selection.rows[0]


def _open_row_of_cell(key: str) -> None:
    """Open the row of the cell that was clicked: Streamlit opens it only at a click on the circle in front."""
    for row, _ in st.session_state[key]["selection"]["cells"]:
        st.session_state[key] = {"selection": {"rows": [row], "columns": [], "cells": []}}


def headings(columns: Iterable[object]) -> dict[str, Any]:
    """Return each column's heading in words, with the format of its values."""
    return {name: _heading(name) for name in map(str, columns)}


def _heading(name: str) -> Any:
    if name in TIMES:
        return st.column_config.DatetimeColumn(label_of(name), format="YYYY-MM-DD HH:mm", timezone="UTC")
    if name == "picture":
        return st.column_config.ImageColumn("Picture")
    if name in COUNTS:
        return st.column_config.NumberColumn(label_of(name), format="localized")
    if name in FORMATS or name.startswith("probability_"):
        return st.column_config.NumberColumn(label_of(name), format=FORMATS.get(name, "%.3f"))
    return st.column_config.Column(label_of(name))


def label_of(name: str) -> str:
    """Return the heading of a column in words."""
    if name in NAMES:
        return NAMES[name]
    for prefix, word in PREFIXES.items():
        if name.startswith(prefix):
            return f"{word}: {visible(name.removeprefix(prefix))}"
    words = visible(display_name(name))
    return words[:1].upper() + words[1:]


def values_in_words(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table with times as times, and codes of reasons as words."""
    times = {name: pd.to_datetime(table[name], format="ISO8601", utc=True) for name in TIMES if name in table}
    reasons = {"reason": table["reason"].map(display_name, na_action="ignore")} if "reason" in table else {}
    return table.assign(**times, **reasons)
