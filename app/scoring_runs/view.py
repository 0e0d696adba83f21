"""Scoring runs: what was scored, refused and held, and which images deserve a second look."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import streamlit as st

from app import charts, tables, words
from app.scoring_runs import batch_images, feedback
from app.server import Folders
from cxr.serving.scoring import scores
from cxr.storage import files
from cxr.storage.scores_folder import ScoresFolder
from cxr.verdict import Finding, Verdict
from cxr.wording import format_folder_time, visible

FIRST = {
    "cxr demo": "scores a synthetic inbox (look at it with `cxr app --scores demo/scores`);",
    "cxr score inbox --name NAME": "scores what is new in a folder of yours.",
}


def show(folders: Folders) -> None:
    """Show the view."""
    st.title("Scoring runs")
    folder = ScoresFolder.at(folders.scores)
    table = scores.list_batches(folder)
    scoring_runs = [scoring_run.path.name for scoring_run in folder.scoring_runs()]
    if table.empty and not scoring_runs:
        st.info("Nothing has been scored yet. Type in a terminal:\n" + words.first_steps(FIRST))
        return
    for batch, n_files in scores.held_batches(folder).items():
        st.warning(f"Batch {words.escape(batch)} is held with {n_files:,} files until `cxr release` publishes it.")
    st.subheader("Batches")
    tables.show(table, "Batches, with how many images were scored and quarantined")
    feedback.show(folder)
    opened = _show_scoring_run(folder, scoring_runs) if scoring_runs else None
    if not table.empty:
        _show_rows(folder, table["batch"].unique().tolist(), opened)


def _show_scoring_run(folder: ScoresFolder, started_at: Sequence[str]) -> str | None:
    """Show the scoring run and the batch that the visitor chooses; return the name of the batch, if there is one."""
    st.subheader("Scoring run")
    chosen = st.selectbox("Scoring run (UTC)", started_at, format_func=format_folder_time, width=420)
    record = files.read_record(folder.scoring_run(chosen).record)
    batches = [batch for batch in record["batches"] if batch["decision"] != "nothing new"]
    batches.sort(key=lambda batch: batch["decision"] != "held")
    st.caption(f"{words.escape(record['model'])}, version {words.escape(record['model_version'])}")
    if record["ended"] != "done":
        reason = f": {record['error']}" if record["error"] else ""
        st.warning(f"This scoring run is under way, or did not come to its end{words.escape(reason)}")
    _offer_report(folder.scoring_run(chosen).report, chosen)
    _show_counts(record["batches"])
    if not batches and record["ended"] == "done":
        st.info("This scoring run found nothing new.")
    if not batches:
        return None
    number = 0
    if len(batches) > 1:
        names = [f"{batch['batch']}: {batch['decision']}" for batch in batches]
        number = st.selectbox("Batch", range(len(batches)), format_func=lambda k: visible(names[k]), width=420)
    _show_batch(record["inbox"], batches[number])
    return batches[number]["batch"]


def _offer_report(report: Path, started_at: str) -> None:
    if report.exists():
        read = partial(files.read_bytes, report)
        st.download_button("Report (HTML)", read, f"scoring-run-{started_at}.html", "text/html", on_click="ignore")


def _show_counts(batches: Sequence[Mapping[str, Any]]) -> None:
    counts = {
        "Images scored": sum(batch["n_scored"] for batch in batches),
        "Quarantined": sum(batch["n_quarantined"] for batch in batches),
        "Other files": sum(sum(batch.get("other_files", {}).values()) for batch in batches),
        "Still being copied": sum(batch["n_waiting"] for batch in batches),
        "Batches held": sum(batch["decision"] == "held" for batch in batches),
    }
    with st.container(horizontal=True):
        for label, count in counts.items():
            st.metric(label, f"{count:,}", border=True)


def _show_batch(inbox: str, batch: Mapping[str, Any]) -> None:
    with st.container(border=True):
        st.markdown(f"**{words.escape(batch['batch'])}**: {words.escape(batch['decision'])}")
        for finding in _failed_checks(batch):
            show = st.error if finding.severity == "critical" else st.warning
            show(words.failed_check(finding.severity, finding.sentence, finding.examples(3)))
        if batch.get("n_unlike_training"):
            st.warning(f"{words.images_are(batch['n_unlike_training'])} unlike the training images.")
        if batch["n_in_training"]:
            st.warning(f"{words.images_are(batch['n_in_training'])} among those that the model was made from.")
        counts = ", ".join(f"{n:,} predicted {words.escape(name)}" for name, n in batch["predicted"].items())
        st.markdown(counts or "No image was scored.")
        if referred := batch.get("n_referred"):
            st.markdown(f"{sum(referred.values()):,} referred: {_reasons(referred)}")
        if any(batch["histogram"]):
            figure = charts.batch_histogram(batch["histogram"], batch.get("probability_of"), batch.get("threshold"))
            st.plotly_chart(figure, config=charts.NO_BAR, alt="How many images have which probability")
        _show_files(inbox, batch)


def _reasons(referred: Mapping[str, int]) -> str:
    return f"{referred['fits none']:,} fit no class, {referred['fits several']:,} fit several."


def _show_files(inbox: str, batch: Mapping[str, Any]) -> None:
    lists = {
        words.UNLIKE_TRAINING: batch.get("unlike_training", []),
        "Worth a second look: nearest to the threshold": batch["nearest"],
        "Worth a second look: the folds disagree most": batch["disagreeing"],
    }
    for title, rows in lists.items():
        batch_images.show_images(title, inbox, batch["batch"], rows, batch.get("probability_of"))
    batch_images.show_quarantined(inbox, batch["batch"], batch["quarantined"])


def _failed_checks(batch: Mapping[str, Any]) -> list[Finding]:
    """Return the checks that failed, the critical ones first."""
    verdicts = [Verdict.from_dict(verdict) for verdict in batch["verdicts"]]
    return [
        finding for severity in ("critical", "warning") for verdict in verdicts for finding in verdict.failed(severity)
    ]


def _show_rows(folder: ScoresFolder, batches: Sequence[str], opened: str | None) -> None:
    """Show the scores of the batch that the visitor chooses, at first of the one that is opened above."""
    st.subheader("Rows of a batch")
    first = batches.index(opened) if opened in batches else 0
    batch = st.selectbox("Batch whose rows are shown", batches, index=first, format_func=visible, width=420)
    rows = scores.read_batch(folder, batch)
    probabilities = [name for name in map(str, rows.columns) if name.startswith("probability_")]
    decided = [name for name in map(str, rows.columns) if name == "predicted_label" or name.startswith("called_")]
    answers = [name for name in ("answer", "prediction_set") if rows[name].notna().any()]
    names = ["path", "status", "reason", *answers, *decided, *probabilities]
    last = ["unlike_training", "fold_spread", "in_training", "detail", "novelty", "model", "model_version", "state"]
    last.append("scored_at")
    tables.show(rows[[*names, *last]], "Every row of the batch")
