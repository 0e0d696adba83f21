"""Labels that came later: the verdict on each version of each model, and its ROC-AUC and calibration by week."""

import pandas as pd
import streamlit as st

from app import charts, tables, words
from cxr.feedback.summary import by_week, performance_of, verdicts_by_class, verdicts_of
from cxr.storage.scores_folder import FeedbackFolder, ScoresFolder

COLUMNS = [
    "model_version",
    "class",
    "verdict",
    "promised",
    "roc_auc",
    "ci_low",
    "ci_high",
    "n_images",
    "n_patients",
    "judged_at",
]
PERCENT = ["promised", "roc_auc", "ci_low", "ci_high"]


def show(folder: ScoresFolder) -> None:
    """Show what later labels say, if any have come."""
    models = folder.all_feedback()
    if not models:
        return
    st.subheader("Labels that came later")
    for name, feedback in models.items():
        _show_model(name, feedback)


def _show_model(name: str, feedback: FeedbackFolder) -> None:
    verdicts = verdicts_of(feedback)
    if not verdicts:
        return
    st.markdown(f"**{words.escape(name)}**")
    by_class = [row for verdict in verdicts for row in verdicts_by_class(feedback, verdict["model_version"])]
    table = pd.DataFrame([*verdicts, *by_class]).reindex(columns=COLUMNS)
    shown = table.assign(**{column: 100 * table[column].astype(float) for column in PERCENT})
    tables.show(shown, "What later labels say of each version and class; ROC-AUC in percent")
    for row in verdicts:
        sentence = f"Version {words.escape(row['model_version'])}: {row['verdict']}"
        reason = f" ({words.escape(row['reason'])})" if row["reason"] else ""
        (st.error if row["verdict"] == "surely below" else st.info)(f"{sentence}{reason}.")
    promised_by = {str(row["model_version"]): row["promised"] for row in verdicts}
    *_, latest = promised_by
    version = st.selectbox("Version", promised_by, len(promised_by) - 1, key=f"feedback {name}", width=420) or latest
    weeks = [row for row in reversed(by_week(performance_of(feedback, version))) if row["week"]]
    auc = charts.by_week("ROC-AUC, %", weeks, "roc_auc", promised_by[version], "promised at least")
    st.plotly_chart(auc, config=charts.NO_BAR, alt="ROC-AUC by week of scoring, with intervals and what is promised")
    calibration = charts.by_week(
        "Probability less observed, points", weeks, "calibration_in_the_large", 0.0, "no difference"
    )
    st.plotly_chart(calibration, config=charts.NO_BAR, alt="Mean probability less the observed share, by week")
    st.caption(
        "Probability less observed: the mean probability of the class, less the share of images that are of it. Only "
        "labelled images count: no interval shows it if they were chosen by their score."
    )
