"""Models: versions, which of them score, and their cards."""

import re

import pandas as pd
import streamlit as st

from app import words
from app.server import Folders
from cxr.report.wording import said
from cxr.serving.registry import list_models, promotions
from cxr.storage import files
from cxr.storage.model_folder import ModelFolder

FIRST = {
    "cxr demo": "makes a model of drawn images, in minutes;",
    "cxr package RUN --name NAME --promote": "makes one of a run of yours.",
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
    number = st.column_config.NumberColumn("ROC-AUC, %", format="%.1f")
    st.dataframe(table, hide_index=True, column_config={"roc_auc": number}, alt="All versions of all models")
    name = st.selectbox("Model", table["name"].unique().tolist(), width=420)
    model, rows = ModelFolder.named(folders.models, name), table[table["name"] == name]
    versions = rows.sort_values("champion", ascending=False)["version"].tolist()
    champions = set(rows.loc[rows["champion"], "version"])
    version = st.selectbox(
        "Version", versions, format_func=lambda v: f"{v}, champion" if v in champions else str(v), width=420
    )
    if not champions:
        st.info(f"No version scores yet: `cxr promote {name} {version}` makes this one the champion.")
    _facts(model, version)
    _history(model)
    st.subheader("Card")
    with st.container(border=True):
        card = FRONT_MATTER.sub("", model.version(version).card.read_text(encoding="utf-8"))
        st.markdown(DIGEST.sub(r"\1…", HEADING.sub(r"##\1", card)))
        st.caption(f"Hashes are shortened here; `{version}/README.md` in the model's folder has them whole.")


def _facts(model: ModelFolder, version: str) -> None:
    facts = files.read_json(model.version(version).description)
    with st.container(horizontal=True):
        st.metric("Classes", len(facts["classes"]), border=True, help=words.listed(facts["classes"]))
        st.metric("Images", f"{facts['n_images']:,}", border=True)
        st.metric("Folds", facts["n_folds"], border=True)
        st.metric("Input, px", facts["size"], border=True)
    if facts["thresholds"]:
        own = facts["operating_point"]
        names = [said(point) + (" (its own)" if point == own else "") for point in facts["thresholds"]]
        values = [f"{value:.3f}" for value in facts["thresholds"].values()]
        st.table(pd.DataFrame({"threshold": values}, index=names))


def _history(model: ModelFolder) -> None:
    events = promotions(model)
    if not events:
        return
    st.subheader("Champions")
    shown = pd.DataFrame(events)[::-1].rename(columns={"force": "by force"})
    st.dataframe(
        shown.astype({"from": "str"}).replace({"from": {"None": "–"}}), hide_index=True, alt="Who followed whom"
    )
