"""Scoring runs: what the job has scored, refused and held, and which films are worth a second look."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from app import charts, words
from app.server import Places
from cxr.serving import scores
from cxr.storage import files
from cxr.storage.scores_folder import ScoresFolder

FIRST = {
    "cxr demo": "scores a drawn inbox (look at it with `cxr app --scores demo/scores`);",
    "cxr score inbox --name NAME": "scores what is new in a folder of yours.",
}
HIDDEN = ["n_bytes", "changed_ns", "image_id"]


def show(places: Places) -> None:
    """Show the view."""
    st.title("Scoring runs")
    folder = ScoresFolder(places.scores.expanduser().resolve())
    table, nights = scores.list_batches(folder), folder.nights()
    if table.empty and not nights:
        st.info("Nothing has been scored yet. Type in a terminal:\n" + words.first_steps(FIRST))
        return
    _tell_held(folder)
    st.subheader("Batches")
    st.dataframe(table, hide_index=True, alt="Batches, with how many films were scored and quarantined")
    if nights:
        _night([night.path.name for night in nights], folder)
    if not table.empty:
        _rows(folder, table["batch"].unique().tolist())


def _tell_held(folder: ScoresFolder) -> None:
    for batch, n_rows in scores.held_batches(folder).items():
        st.warning(f"Batch {words.plain(batch)} is held with {n_rows:,} rows until `cxr release` publishes it.")


def _night(names: Sequence[str], folder: ScoresFolder) -> None:
    st.subheader("A night")
    chosen = st.selectbox("Night (UTC)", names, format_func=_when, width=420)
    record = files.read_json(folder.night(chosen).record)
    batches = [batch for batch in record["batches"] if batch["decision"] != "nothing new"]
    st.caption(f"{words.plain(record['model'])}, version {words.plain(record['model_version'])}")
    with st.container(horizontal=True):
        st.metric("Films scored", f"{sum(b['n_scored'] for b in batches):,}", border=True)
        st.metric("Quarantined", f"{sum(b['n_quarantined'] for b in batches):,}", border=True)
        st.metric("Still being copied", f"{sum(b['n_waiting'] for b in record['batches']):,}", border=True)
        st.metric("Batches held", sum(b["decision"] == "held" for b in batches), border=True)
    if not batches:
        st.info("There was nothing new that night.")
        return
    number = 0
    if len(batches) > 1:
        number = st.selectbox("Batch", range(len(batches)), format_func=lambda k: str(batches[k]["batch"]), width=420)
    _batch(batches[number])


def _when(started_at: str) -> str:
    day, _, time = started_at.partition("T")
    return f"{day} {':'.join(time.split('-')[:2])}"


def _batch(batch: Mapping[str, Any]) -> None:
    with st.container(border=True):
        st.markdown(f"**{words.plain(batch['batch'])}**: {words.plain(batch['decision'])}")
        called = ", ".join(f"{n:,} called {words.plain(name)}" for name, n in batch["called"].items())
        st.markdown(called or "No film was scored.")
        for finding in _failed(batch):
            st.warning(f"Not so ({finding['severity']}): {finding['sentence']}")
        if batch["n_in_training"]:
            st.warning(f"{batch['n_in_training']:,} of the films were used to make the model.")
        if any(batch["histogram"]):
            figure = charts.night_scores(batch["histogram"], "the class asked for")
            st.plotly_chart(figure, config=charts.NO_BAR, alt="How many films have which probability")
        _films("Worth a second look: nearest to the threshold", batch["nearest"])
        _films("Worth a second look: the folds disagree most", batch["disagreeing"])
        _films("Quarantined", batch["quarantined"])


def _failed(batch: Mapping[str, Any]) -> list[dict[str, Any]]:
    findings = [finding for verdict in batch["verdicts"] for finding in verdict["findings"]]
    return [finding for finding in findings if not finding["passed"] and finding["severity"] != "info"]


def _films(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    if not rows:
        return
    st.markdown(f"**{title}**")
    number = st.column_config.NumberColumn(format="%.3f")
    table = pd.DataFrame(rows).drop(columns=HIDDEN, errors="ignore")
    formats = {"probability": number, "fold_spread": number}
    st.dataframe(table, hide_index=True, column_config=formats, alt=title)


def _rows(folder: ScoresFolder, batches: Sequence[str]) -> None:
    st.subheader("All rows of a batch")
    batch = st.selectbox("Batch to read", batches, format_func=str, width=420)
    rows = scores.read_batch(folder, batch)
    first = [
        "path",
        "status",
        "reason",
        "predicted_label",
        *(c for c in rows.columns if str(c).startswith("probability_")),
    ]
    order = [*first, "fold_spread", "in_training", "detail", "novelty", "model", "model_version", "state", "scored_at"]
    st.dataframe(rows[order], hide_index=True, alt="Every row of the batch")
