"""Models: their versions, which of them are champions, and their cards."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from app import tables, words
from app.server import Folders
from cxr.classes import Findings, outputs_of_record
from cxr.serving.origin import describe_origin
from cxr.serving.registry import list_models, promotions
from cxr.storage import verified
from cxr.storage.model_folder import ModelFolder
from cxr.wording import visible

FIRST = {
    "cxr demo": "makes a model from synthetic images, in minutes;",
    "cxr package RUN --name NAME --promote": "makes one from a run of yours.",
}
HEADING = re.compile(r"^(#+ )", re.MULTILINE)
DIGEST = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{28,}\b")
FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)


def show(folders: Folders) -> None:
    """Show the view."""
    st.title("Models")
    table = list_models(folders.models)
    if table.empty:
        st.info("There is no model yet. Type in a terminal:\n" + words.first_steps(FIRST))
        return
    tables.show(table, "All versions of all models")
    with st.container(horizontal=True):
        name = st.selectbox("Model", table["name"].unique().tolist(), width=420)
        rows = table[table["name"] == name].sort_values("champion", ascending=False)
        champions = rows.loc[rows["champion"], "version"].tolist()
        version = _choose_version(rows["version"].tolist(), champions)
    if not champions:
        st.info(
            f"Version {version} of {words.escape(name)} is no champion, and no other is: `cxr promote` makes it one."
        )
    model = ModelFolder.named(folders.models, name)
    _show_facts(model, version)
    _show_champions(model)
    _show_card(model, version)


def _choose_version(versions: Sequence[str], champions: Sequence[str]) -> str:
    def label(version: str) -> str:
        return f"{version}, champion" if version in champions else version

    return st.selectbox("Version", versions, format_func=label, width=420)


def _show_facts(model: ModelFolder, version: str) -> None:
    facts = verified.read_json(model.version(version).description)
    with st.container(horizontal=True):
        st.metric("Classes", len(facts["classes"]), border=True, help=words.joined(facts["classes"]))
        st.metric("Images", f"{facts['n_images']:,}", border=True)
        st.metric("Folds", facts["n_folds"], border=True)
        st.metric("Input, px", facts["size"], border=True)
    _show_thresholds(facts)


def _show_thresholds(facts: Mapping[str, Any]) -> None:
    """Show the thresholds of the positive class, or of the finding that the visitor chooses."""
    thresholds = facts["thresholds"]
    if isinstance(outputs_of_record(facts), Findings):
        thresholds = thresholds[st.selectbox("Finding", list(thresholds), format_func=visible, width=420)]
    if thresholds:
        used = facts["operating_point"]
        names = [words.point_label(point) + (", used" if point == used else "") for point in thresholds]
        values = [f"{value:.3f}" for value in thresholds.values()]
        st.table(pd.DataFrame({"threshold": values}, index=names))
        st.caption(f"Thresholds: {words.escape(describe_origin(facts))}.")


def _show_champions(model: ModelFolder) -> None:
    events = promotions(model)
    if not events:
        return
    st.subheader("Champions")
    shown = pd.DataFrame(events)[::-1].astype({"from": "str"}).replace({"from": {"None": "–"}})
    tables.show(shown, "Which version became champion when, and why")


def _show_card(model: ModelFolder, version: str) -> None:
    """Show the model card without its metadata, headings one level down, and hashes cut to fit a narrow screen.

    A package may come from anywhere, so the card's pictures, which a browser would fetch, are shown as text.
    """
    st.subheader("Card")
    with st.container(border=True):
        card = FRONT_MATTER.sub("", verified.read_bytes(model.version(version).card).decode())
        st.markdown(DIGEST.sub(r"\1…", HEADING.sub(r"##\1", card)).replace("![", "!\\["))
        st.markdown(f"Hashes are shortened here; `{version}/README.md` in the model's folder has them in full.")
