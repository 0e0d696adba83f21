"""Classify: a visitor's images, what the model predicts for each, and where it looked."""

from collections.abc import Sequence

import numpy as np
import streamlit as st

from app import words
from app.classify import cards, choices, prediction, uploads
from app.classify.loading import LoadedModel
from app.classify.prediction import Decision, Scored
from app.classify.uploads import Upload
from app.server import MAX_UPLOAD_MB, Folders
from cxr.images.synthetic import draw_examples
from cxr.metrics.calibration import predict_labels
from cxr.serving.predictor import Prediction
from cxr.wording import DISCLAIMER

MAX_IMAGES = 100
"""More belong in an inbox."""
LONG_LIST = 10
"""A list of more refused files is scrolled."""


def show(folders: Folders) -> None:
    """Show the view."""
    st.title("Classify")
    left, right = st.columns([2, 3], gap="medium")
    with left:
        model = choices.choose_model(folders)
    if model is None:
        return
    with right:
        shown = choices.choose_finding(model)
        decision = choices.choose_threshold(shown)
    images = _collect(model)
    _show_refused(images)
    scored = _decide(decision, images)
    if not scored:
        return
    if len(scored) > 1:
        cards.show(decision, scored)
    else:
        with st.container(border=True):
            prediction.show(decision, scored[0])
    _offer_tables(model, images)


def _collect(model: LoadedModel) -> list[Upload]:
    """Return the visitor's images, read and scored; forget those that the visitor has removed."""
    before: dict[str, Upload] = st.session_state.get("images", {})
    now = {}
    for file_id, name, data in _chosen_files():
        key = f"{model.package.identity} {file_id}"
        now[key] = before.get(key) or uploads.read(model.package, name, data)
    st.session_state["images"] = now
    images = list(now.values())
    _score(model, images)
    return images


def _chosen_files() -> list[tuple[str, str, bytes]]:
    """Return id, name and bytes of each file that the visitor has uploaded or picked."""
    dropped = st.file_uploader(
        "Drop images here: JPEG, PNG or DICOM, one or many", accept_multiple_files=True, max_upload_size=MAX_UPLOAD_MB
    )
    examples = _examples()
    picked = st.pills(
        "or take a synthetic one",
        list(examples),
        selection_mode="multi",
        wrap=True,
        help="Drawn by this program, as `cxr sample` does; no patient.",
    )
    if len(dropped) > MAX_IMAGES:
        st.warning(
            f"Only the first {MAX_IMAGES} of {len(dropped)} files are used. "
            "Put more into an inbox, and score it with `cxr score`."
        )
    files = [(upload.file_id, upload.name, upload.getvalue()) for upload in dropped[:MAX_IMAGES]]
    return files + [(f"example {name}", f"synthetic: {name}", examples[name]) for name in picked]


@st.cache_data(show_spinner=False)
def _examples() -> dict[str, bytes]:
    return draw_examples()


def _score(model: LoadedModel, images: Sequence[Upload]) -> None:
    n_new = sum(image.is_new for image in images)
    if n_new <= uploads.STEP:
        uploads.predict(model, images)
        return
    bar = st.progress(0.0, f"Scoring {n_new} images …")
    uploads.predict(model, images, lambda n_done: bar.progress(n_done / n_new))
    bar.empty()


def _show_refused(images: Sequence[Upload]) -> None:
    """Show which files were not scored, and why, as one list."""
    refused = [(image.name, image.reading.refused) for image in images if image.reading.refused]
    if refused:
        with st.container(height="content" if len(refused) <= LONG_LIST else 300):
            st.error(words.refusals(refused))


def _decide(decision: Decision, images: Sequence[Upload]) -> list[Scored]:
    """Return the images that have a prediction, with the class that is predicted at the chosen threshold."""
    classes = decision.model.package.classes
    finding = decision.model.finding
    scored = [(image, _of(image.prediction, finding)) for image in images if image.prediction]
    if not scored:
        return []
    probability = np.array([[prediction.probability[name] for name in classes] for _, prediction in scored])
    predicted = predict_labels(probability, classes, decision.threshold)
    return [Scored(*pair, str(name)) for pair, name in zip(scored, predicted, strict=True)]


def _of(made: Prediction, finding: str | None) -> Prediction:
    return made if finding is None else made.of(finding)


def _offer_tables(model: LoadedModel, images: Sequence[Upload]) -> None:
    rows = uploads.table(model, images)
    downloads = {
        "Results (JSON)": (uploads.as_json(rows, DISCLAIMER), "cxr-results.json", "application/json"),
        "Results (Parquet)": (uploads.as_parquet(rows), "cxr-results.parquet", "application/vnd.apache.parquet"),
    }
    with st.container(horizontal=True):
        for label, (data, name, kind) in downloads.items():
            st.download_button(label, data, name, kind, on_click="ignore")
    st.caption("The tables have the columns of the scores; they predict at the model's own operating point.")
