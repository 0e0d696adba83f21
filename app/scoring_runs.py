"""Scoring runs: what the job has scored, refused and held, and which images are worth a second look."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from app import charts, words
from app.server import Folders
from cxr.serving import scores
from cxr.storage import files
from cxr.storage.scores_folder import ScoresFolder

FIRST = {
    "cxr demo": "scores a drawn inbox (look at it with `cxr app --scores demo/scores`);",
    "cxr score inbox --name NAME": "scores what is new in a folder of yours.",
}
HIDDEN = ["n_bytes", "changed_ns", "image_id"]


def show(folders: Folders) -> None:
    """Show the view."""
    st.title("Scoring runs")
    folder = ScoresFolder.at(folders.scores)
    table, scoring_runs = scores.list_batches(folder), folder.scoring_runs()
    if table.empty and not scoring_runs:
        st.info("Nothing has been scored yet. Type in a terminal:\n" + words.first_steps(FIRST))
        return
    _tell_held(folder)
    st.subheader("Batches")
    st.dataframe(table, hide_index=True, alt="Batches, with how many images were scored and quarantined")
    if scoring_runs:
        _scoring_run([scoring_run.path.name for scoring_run in scoring_runs], folder)
    if not table.empty:
        _rows(folder, table["batch"].unique().tolist())


def _tell_held(folder: ScoresFolder) -> None:
    for batch, n_rows in scores.held_batches(folder).items():
        st.warning(f"Batch {words.plain(batch)} is held with {n_rows:,} rows until `cxr release` publishes it.")


def _scoring_run(names: Sequence[str], folder: ScoresFolder) -> None:
    st.subheader("A scoring run")
    chosen = st.selectbox("ScoringRun (UTC)", names, format_func=_when, width=420)
    record = files.read_record(folder.scoring_run(chosen).record)
    batches = [batch for batch in record["batches"] if batch["decision"] != "nothing new"]
    st.caption(f"{words.plain(record['model'])}, version {words.plain(record['model_version'])}")
    with st.container(horizontal=True):
        st.metric("Images scored", f"{sum(b['n_scored'] for b in batches):,}", border=True)
        st.metric("Quarantined", f"{sum(b['n_quarantined'] for b in batches):,}", border=True)
        st.metric("Still being copied", f"{sum(b['n_waiting'] for b in record['batches']):,}", border=True)
        st.metric("Batches held", sum(b["decision"] == "held" for b in batches), border=True)
    if not batches:
        st.info("There was nothing new that scoring run.")
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
        predicted = ", ".join(f"{n:,} called {words.plain(name)}" for name, n in batch["predicted"].items())
        st.markdown(predicted or "No image was scored.")
        for finding in _failed(batch):
            st.warning(f"Not so ({finding['severity']}): {finding['sentence']}")
        if batch["n_in_training"]:
            st.warning(f"{batch['n_in_training']:,} of the images were used to make the model.")
        if any(batch["histogram"]):
            figure = charts.scoring_run_scores(batch["histogram"], "the class asked for")
            st.plotly_chart(figure, config=charts.NO_BAR, alt="How many images have which probability")
        _images("Worth a second look: nearest to the threshold", batch["nearest"])
        _images("Worth a second look: the folds disagree most", batch["disagreeing"])
        _images("Quarantined", batch["quarantined"])


def _failed(batch: Mapping[str, Any]) -> list[dict[str, Any]]:
    findings = [finding for verdict in batch["verdicts"] for finding in verdict["findings"]]
    return [finding for finding in findings if not finding["passed"] and finding["severity"] != "info"]


def _images(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
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
