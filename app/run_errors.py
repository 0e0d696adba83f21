"""The errors section of a run: the images that are predicted wrongly."""

from typing import Any

import streamlit as st

from app import run_images, run_tables, words
from app.filters import Filters
from cxr.storage.run_folder import RunFolder

FILTERS = Filters(
    {"label": "Label", "predicted": "Predicted", "subtype": "Subtype", "fold": "Fold"},
    {"probability": "Probability of the predicted class"},
)


def show(folder: RunFolder, finding: str | None) -> None:
    """Show every wrong prediction, the most confident first."""
    errors = run_tables.table("errors", folder, finding)
    n_images = len(run_tables.out_of_fold(folder, finding).predictions)
    st.subheader("Errors")
    if errors.empty:
        st.info(f"None of {n_images:,} images is predicted wrongly.")
        return
    st.markdown(
        f"**{len(errors):,} of {n_images:,} images** are predicted wrongly: another class than the label is the most "
        "probable one. The most confident errors come first."
    )
    st.caption("Out of fold, with probabilities calibrated on the other folds.")
    run_images.show(folder, errors, FILTERS, f"errors, {folder.run_id}, {finding}", _describe)


def _describe(row: dict[Any, Any]) -> tuple[str, str]:
    title = f"{words.escape(row['label'])}, predicted {words.escape(row['predicted'])}"
    return title, f"probability {row['probability']:.1%}, fold {row['fold']}  \n{words.escape(row['path'])}"
