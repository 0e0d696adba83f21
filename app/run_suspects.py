"""The label suspects section of a run: the images whose label is most likely wrong."""

import pandas as pd
import streamlit as st

from app import words
from cxr.config import TrainConfig
from cxr.dataset.pictures import find_pictures
from cxr.evaluation.findings import rows_of
from cxr.report.markup import thumbnail
from cxr.storage import verified
from cxr.storage.run_folder import RunFolder

N_PICTURES = 24
PICTURE_PX = 220
HIDDEN = ["image_id", "is_suspect"]


def show(folder: RunFolder, finding: str | None) -> None:
    """Show the suspects as a table, and the pictures of the first."""
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
    formats = {"self_confidence": st.column_config.NumberColumn(format="%.4f")}
    table = suspects.drop(columns=HIDDEN)
    st.dataframe(table, hide_index=True, column_config=formats, alt="Label suspects, most suspect first")
    st.caption("Self-confidence: the probability of the image's own label, out of fold, calibrated on the other folds.")
    _show_pictures(folder, suspects.head(N_PICTURES))


def _show_pictures(folder: RunFolder, suspects: pd.DataFrame) -> None:
    config = TrainConfig.from_dict(verified.read_record(folder.config)["config"])
    with st.spinner("Reading the images …"):
        pictures = find_pictures(config, zip(suspects["path"], suspects["image_id"], strict=True), PICTURE_PX)
    shown = [(row, picture) for row, picture in zip(suspects.itertuples(), pictures, strict=True) if picture]
    if shown:
        st.image(
            [thumbnail(picture.grey, PICTURE_PX) for _, picture in shown],
            [f"{row.rank}: {words.escape(str(row.label))}, {words.escape(str(row.path))}" for row, _ in shown],
            width=PICTURE_PX,
            alt=[f"Label suspect {row.path}" for row, _ in shown],
        )
    if len(shown) < len(suspects):
        st.caption(f"{len(suspects) - len(shown)} of the first {len(suspects)} images are not available.")
