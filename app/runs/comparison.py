"""The comparison section of a run: how it differs from another run on the images that both have evaluated."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from app import words
from app.filters import Filters
from app.runs import grid, results
from cxr.storage.run_folder import RunFolder
from cxr.wording import display_name, format_estimate, format_p


def show(experiments: Path, run_id: str, others: list[str]) -> None:
    """Show a run beside one of the others, which the visitor chooses."""
    if not others:
        st.info(
            "There is no other run to compare with: none is finished, has the same classes, and has images in common "
            "with this one, under the same labels."
        )
        return
    other = st.selectbox(f"Compare {words.escape(run_id)} with", others, width=420)
    folders = [RunFolder.existing(name, experiments) for name in (run_id, other)]
    compared = results.comparison(folders)
    left_out = ", ".join(f"{n:,} more in {words.escape(name)}" for name, n in compared.n_others.items() if n)
    st.markdown(f"{compared.n_images:,} images in common" + (f"; {left_out} are left out." if left_out else "."))
    if compared.is_unlike:
        st.warning(
            "One run's folds leave out clusters of images acquired alike, the other's patients at random: "
            "the differences are not the models' alone."
        )
    st.table(differences(compared.metrics, run_id, other))
    st.markdown(f"The runs predict different classes for **{compared.changed['image_id'].nunique():,} images**.")
    if len(compared.changed):
        _show_changed(folders[0], compared.changed, other)


def _show_changed(folder: RunFolder, changed: pd.DataFrame, other: str) -> None:
    """Show the images for which two runs predict different classes."""
    runs = (folder.run_id, other)
    values = {"class": "Finding"} if "class" in changed else {}
    values |= {"label": "Label", "right": "Right"} | {_column(run): f"Predicted by {words.escape(run)}" for run in runs}
    name = f"changed, {folder.run_id}, {other}"
    grid.show(folder, changed, Filters(values), name, partial(_describe, runs))


def _column(run: str) -> str:
    return f"predicted_{run}"


def _describe(runs: Sequence[str], row: dict[Any, Any]) -> tuple[str, str]:
    predicted = [f"{words.escape(run)}: {words.escape(row[_column(run)])}" for run in runs]
    return words.escape(row["label"]), "  \n".join([*predicted, words.escape(row["path"])])


def differences(rows: pd.DataFrame, run_id: str, other: str) -> pd.DataFrame:
    """Return each metric of two runs in percent, and how they differ.

    Args:
        rows: the `metrics` of a comparison.
        run_id: the run that is compared with.
        other: the run that is compared.
    """
    first, second = (rows[rows["run"] == name].set_index(["class", "metric"]) for name in (run_id, other))
    is_one_class = second.index.get_level_values("class").dropna().nunique() < 2
    names = [
        display_name(metric) if is_one_class or pd.isna(name) else f"{display_name(metric)}, {words.escape(name)}"
        for name, metric in second.index
    ]
    intervals = second[["difference", "ci_low", "ci_high"]].to_numpy()
    tests = zip(second["p_value"], second["test"], strict=True)
    columns = {
        f"{words.escape(run_id)}, %": [format_estimate(value) for value in first["value"]],
        f"{words.escape(other)}, %": [format_estimate(value) for value in second["value"]],
        f"{words.escape(other)} minus {words.escape(run_id)}, points [95%]": [
            format_estimate(*values, sign=True) for values in intervals
        ],
        "p": [format_p(p) + ("" if pd.isna(p) else f" ({test})") for p, test in tests],
    }
    return pd.DataFrame(columns, index=names)
