"""Classify: a visitor's images, what the model predicts for each, and where it looked."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import streamlit as st

from app import prediction, uploads, words
from app.prediction import Decision, Scored
from app.server import MAX_UPLOAD_MB, Folders
from app.uploads import LoadedModel, Upload
from cxr.classes import Findings
from cxr.config import OperatingPoint
from cxr.images.synthetic import draw_examples
from cxr.metrics.calibration import predict_labels
from cxr.serving.origin import describe_origin
from cxr.serving.predictor import Prediction
from cxr.serving.registry import champion_version, list_models
from cxr.storage.model_folder import ModelFolder
from cxr.wording import DISCLAIMER, display_name

MAX_IMAGES = 100
"""More belong in an inbox."""
MAX_NAMED = 10
"""Refused files that are named one by one."""
FIRST = {
    "cxr demo": "trains a model on synthetic images, in minutes;",
    "cxr package RUN --name NAME --promote": "makes a model from a run of yours.",
}


def show(folders: Folders) -> None:
    """Show the view."""
    st.title("Classify")
    left, right = st.columns([2, 3], gap="large")
    with left:
        model = _choose_model(folders)
    if model is None:
        return
    with right:
        shown = _choose_finding(model)
        decision = _choose_threshold(shown)
    images = _collect(model)
    _show_refused(images)
    scored = _decide(decision, images)
    if not scored:
        return
    if len(scored) > 1:
        _show_overview(shown, scored)
    prediction.show(decision, _choose_image(scored))
    _offer_tables(model, images)


def _choose_model(folders: Folders) -> LoadedModel | None:
    """Return the model that the visitor chooses, by default a champion; say what to do first if there is none."""
    versions = list_models(folders.models)
    if versions.empty:
        st.info("There is no model yet. Type in a terminal:\n" + words.first_steps(FIRST))
        return None
    rows = versions.sort_values("champion", ascending=False, kind="stable")
    options = [(str(row.name), str(row.version)) for row in rows[["name", "version"]].itertuples(index=False)]
    chosen = st.selectbox("Model", options, format_func=lambda option: _model_name(folders.models, *option))
    return uploads.load_model(folders.models, *chosen, folders.cache)


def _model_name(models: Path, name: str, version: str) -> str:
    is_champion = champion_version(ModelFolder.named(models, name)) == version
    return f"{name}, version {version}" + (", champion" if is_champion else "")


def _choose_finding(model: LoadedModel) -> LoadedModel:
    """Return the model for the one of several findings that the visitor chooses; a model of classes as it is."""
    outputs = model.package.outputs
    if not isinstance(outputs, Findings):
        return model
    return model.of(st.selectbox("Finding", list(outputs), format_func=words.escape, width=420))


def _choose_threshold(model: LoadedModel) -> Decision:
    package = model.package
    if not package.thresholds:
        return Decision(model, None, 0.5)
    points: list[OperatingPoint] = list(package.thresholds)
    point: OperatingPoint = st.segmented_control(
        f"Threshold of the probability of {words.escape(package.classes[1])}",
        points,
        required=True,
        wrap=True,
        default=package.operating_point,
        format_func=lambda point: f"{display_name(point)}: {package.thresholds[point]:.1%}",
        help=f"Where they come from: {words.escape(describe_origin(package.facts))}. At balanced, a network's two "
        "outputs are equal; Youden has the largest sum of sensitivity and specificity; the last two reach 95 % of one "
        "or of the other.",
    )
    return Decision(model, point, package.thresholds[point])


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
    refused = [(image.name, image.reading.refused) for image in images if image.reading.refused]
    for name, error in refused[:MAX_NAMED]:
        st.error(words.refusal(name, error))
    if len(refused) > MAX_NAMED:
        st.error(f"{len(refused) - MAX_NAMED} more files were not scored; the tables to download say why.")


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


def _show_overview(model: LoadedModel, scored: Sequence[Scored]) -> None:
    st.subheader(f"{len(scored)} images")
    rows = [_overview_row(model, item) for item in scored]
    number = st.column_config.NumberColumn(format="%.1f")
    formats = {"probability, %": number, "fold spread, %": number}
    st.dataframe(pd.DataFrame(rows), hide_index=True, column_config=formats, alt="The prediction for each image")


def _overview_row(model: LoadedModel, scored: Scored) -> dict[str, object]:
    name = words.shown_class(model.package.classes, scored.prediction)
    return {
        "image": scored.image.name,
        "predicted": scored.predicted,
        "probability of": name,
        "probability, %": 100 * scored.prediction.probability[name],
        "fold spread, %": 100 * scored.prediction.fold_spread,
        "look twice": " ".join(words.cautions(scored.image.reading, scored.prediction, model.reference)),
    }


def _choose_image(scored: Sequence[Scored]) -> Scored:
    if len(scored) == 1:
        return scored[0]
    names = [f"{number}: {item.image.name}" for number, item in enumerate(scored, start=1)]
    return scored[st.selectbox("Look closer at", range(len(scored)), format_func=lambda k: names[k], width=420)]


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
