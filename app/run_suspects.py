"""The label suspects section of a run: the images whose label is most likely wrong."""

from typing import Any

import streamlit as st

from app import run_images, words
from app.filters import Filters
from cxr.evaluation.findings import rows_of
from cxr.storage import verified
from cxr.storage.run_folder import RunFolder

FILTERS = Filters(
    {"label": "Label", "suggested_label": "Suggested label", "subtype": "Subtype", "fold": "Fold"},
    {"self_confidence": "Probability of the label"},
)


def show(folder: RunFolder, finding: str | None) -> None:
    """Show the suspects, the most suspect first."""
    ranked = rows_of(verified.read_table(folder.table("label_suspects")), finding)
    suspects = ranked[ranked["is_suspect"]]
    st.subheader("Label suspects")
    if suspects.empty:
        st.info(f"None of {len(ranked):,} labels is a suspect.")
        return
    st.markdown(
        f"**{len(suspects):,} of {len(ranked):,} labels** are suspects, found by confident learning. **A suspect is no "
        "proof:** networks err, and hard images are among the suspects. Look at the images, move those whose label is "
        "wrong to the right folder, and train again."
    )
    st.caption("The probability of the label is out of fold, calibrated on the other folds.")
    run_images.show(folder, suspects, FILTERS, f"suspects, {folder.run_id}, {finding}", _describe)


def _describe(row: dict[Any, Any]) -> tuple[str, str]:
    """Return rank, label and path: whoever judges a label should not see at once what the networks think."""
    return f"{row['rank']}: {words.escape(row['label'])}", words.escape(row["path"])
