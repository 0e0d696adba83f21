"""Classify: images in, what the model says of each out, and where it looked."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import streamlit as st

from app import charts, uploads, words
from app.server import MAX_UPLOAD_MB, Folders
from app.uploads import LoadedModel, Upload
from app.words import DISCLAIMER
from cxr.config import OperatingPoint
from cxr.errors import PackageError
from cxr.images.synthetic import draw_examples
from cxr.metrics.calibration import predict_labels
from cxr.network.grad_cam import overlay
from cxr.report.wording import said
from cxr.serving.predictor import Prediction
from cxr.serving.registry import champion_version, list_models
from cxr.storage.model_folder import ModelFolder

MAX_IMAGES = 100
"""More belong in an inbox."""
MAX_NAMED = 10
FIRST = {
    "cxr demo": "trains a model on drawn images, in minutes;",
    "cxr package RUN --name NAME --promote": "makes a model of a run of yours.",
}


def show(folders: Folders) -> None:
    """Show the view."""
    st.title("Classify chest images")
    left, right = st.columns([2, 3], gap="large")
    with left:
        model = _choose_model(folders)
    if model is None:
        return
    with right:
        point, threshold = _choose_point(model)
    held = _collect(model)
    _refuse(held)
    judged = [(image, image.prediction) for image in held if image.prediction]
    if not judged:
        return
    predicted = _predicted(model, [prediction for _, prediction in judged], threshold)
    if len(judged) > 1:
        _overview(model, judged, predicted)
    number = _choose_image([image for image, _ in judged])
    _explain(model, *judged[number], predicted[number], point, threshold)
    _download_tables(model, held)


def _choose_model(folders: Folders) -> LoadedModel | None:
    """Return the model that the visitor chooses, by default a champion; say what to do first if there is none."""
    versions = list_models(folders.models)
    if versions.empty:
        st.info("There is no model yet. Type in a terminal:\n" + words.first_steps(FIRST))
        return None
    champions = versions[versions["champion"]]
    order = pd.concat([champions, versions[~versions["champion"]]])
    options = [(str(row.name), str(row.version)) for row in order[["name", "version"]].itertuples(index=False)]
    chosen = st.selectbox("Model", options, format_func=lambda one: _model_name(folders.models, *one))
    try:
        return uploads.load_model(folders.models, *chosen, folders.cache)
    except PackageError as error:
        st.error(words.plain(str(error)))
        return None


def _model_name(models: Path, name: str, version: str) -> str:
    is_champion = champion_version(ModelFolder.named(models, name)) == version
    return f"{name}, version {version}" + (", champion" if is_champion else "")


def _choose_point(model: LoadedModel) -> tuple[OperatingPoint | None, float]:
    """Return the operating point and its threshold; of more than two classes the likeliest is called."""
    package = model.package
    if not package.thresholds:
        return None, 0.5
    points: list[OperatingPoint] = list(package.thresholds)
    point: OperatingPoint = st.segmented_control(
        f"From which probability up is an image called {words.plain(package.classes[1])}?",
        points,
        required=True,
        wrap=True,
        default=package.operating_point,
        format_func=lambda one: f"{said(one)}: {package.thresholds[one]:.1%}",
        help="Chosen on the images that the model was judged on. 0.5 is plain; Youden has the largest sum of "
        "sensitivity and specificity; the others reach 95 % of the one or of the other.",
    )
    return point, package.thresholds[point]


def _collect(model: LoadedModel) -> list[Upload]:
    """Return the visitor's images, read and judged; what they took away is forgotten."""
    dropped = st.file_uploader(
        "Drop images here: JPEG, PNG or DICOM, one or many", accept_multiple_files=True, max_upload_size=MAX_UPLOAD_MB
    )
    examples = _examples()
    picked = st.pills(
        "or take one that is drawn (no patient)",
        list(examples),
        selection_mode="multi",
        wrap=True,
        help="Drawn by this program, as `cxr sample` does.",
    )
    files = [(upload.file_id, upload.name, upload.getvalue()) for upload in dropped[:MAX_IMAGES]]
    files += [(f"example {name}", f"drawn: {name}", examples[name]) for name in picked]
    if len(dropped) > MAX_IMAGES:
        st.warning(
            f"The first {MAX_IMAGES} of {len(dropped)} files are looked at: more belong in an inbox, `cxr score`."
        )
    before: dict[str, Upload] = st.session_state.get("images", {})
    version = model.package.identity
    now = {}
    for file_id, name, data in files:
        key = f"{version} {file_id}"
        now[key] = before.get(key) or uploads.read(model.package, name, data)
    st.session_state["images"] = now
    _judge(model, list(now.values()))
    return list(now.values())


@st.cache_data(show_spinner=False)
def _examples() -> dict[str, bytes]:
    return draw_examples()


def _judge(model: LoadedModel, held: Sequence[Upload]) -> None:
    n_new = sum(image.prediction is None and image.reading.refused is None for image in held)
    if n_new <= uploads.STEP:
        uploads.predict(model, held)
        return
    bar = st.progress(0.0, f"Judging {n_new} images …")
    uploads.predict(model, held, lambda n: bar.progress(n / n_new))
    bar.empty()


def _refuse(held: Sequence[Upload]) -> None:
    refused = [(image.name, image.reading.refused) for image in held if image.reading.refused]
    for name, error in refused[:MAX_NAMED]:
        st.error(words.refusal(name, error))
    if len(refused) > MAX_NAMED:
        st.error(f"{len(refused) - MAX_NAMED} more files are not judged; the tables to download say why.")


def _predicted(model: LoadedModel, predictions: Sequence[Prediction], threshold: float) -> list[str]:
    """Return the class that each image is called at the threshold."""
    classes = model.package.classes
    probability = np.array([[prediction.probability[name] for name in classes] for prediction in predictions])
    return [str(name) for name in predict_labels(probability, classes, threshold)]


def _overview(model: LoadedModel, judged: Sequence[tuple[Upload, Prediction]], predicted: Sequence[str]) -> None:
    st.subheader(f"{len(judged)} images")
    rows = []
    for (image, prediction), name in zip(judged, predicted, strict=True):
        asked = words.asked_for(model.package, prediction)
        notes = words.cautions(image.reading, prediction, model.reference)
        rows.append(
            {
                "image": image.name,
                "predicted": name,
                "of": asked,
                "probability, %": 100 * prediction.probability[asked],
                "folds differ by, %": 100 * prediction.fold_spread,
                "look twice": " ".join(notes),
            }
        )
    number = st.column_config.NumberColumn(format="%.1f")
    formats = {"probability, %": number, "folds differ by, %": number}
    st.dataframe(pd.DataFrame(rows), hide_index=True, column_config=formats, alt="What the model says of each image")


def _choose_image(good: Sequence[Upload]) -> int:
    if len(good) == 1:
        return 0
    return st.selectbox("Look closer at", range(len(good)), format_func=lambda k: f"{k + 1}: {good[k].name}", width=420)


def _explain(
    model: LoadedModel,
    image: Upload,
    prediction: Prediction,
    predicted: str,
    point: OperatingPoint | None,
    threshold: float,
) -> None:
    package = model.package
    with st.container(border=True):
        st.caption(words.plain(image.name))
        st.header(words.plain(predicted), anchor=False)
        left, right = st.columns(2, gap="large")
        with left:
            st.markdown(words.verdict(package, prediction, predicted, point, threshold))
            place_of_gauge = st.empty()
        with right:
            st.markdown(words.agreement(package, prediction, threshold))
            st.markdown(words.meaning(package, prediction, model.reference))
            for caution in words.cautions(image.reading, prediction, model.reference):
                st.warning(caution)
        _pictures(model, image, predicted)
        asked = words.asked_for(package, prediction)
        limit = threshold if len(package.classes) == 2 else None
        gauge = charts.gauge(asked, prediction.probability[asked], prediction.by_fold[asked], limit)
        place_of_gauge.plotly_chart(
            gauge, config=charts.NO_BAR, alt="The image's probability, each fold's, and the threshold"
        )


@st.fragment
def _pictures(model: LoadedModel, image: Upload, predicted: str) -> None:
    """Show the image beside where the networks looked; moving the slider draws these pictures anew and nothing else."""
    classes = model.package.classes
    left, right = st.columns(2, gap="large")
    with left:
        target = st.segmented_control(
            "Where did it look for",
            classes,
            default=predicted,
            required=True,
            wrap=True,
            key=f"target {id(image)} {predicted}",
        )
    with right:
        opacity = st.slider("Opacity of the map", 0.0, 1.0, 0.5, 0.05)
    heat = uploads.look(model, image, target)
    grey = image.grey
    left, right = st.columns(2, gap="large")
    with left:
        st.image(grey, "The image", width="stretch", alt="The image")
    with right:
        st.image(
            overlay(grey, heat, opacity=opacity),
            f"Grad-CAM for {words.plain(target)}",
            width="stretch",
            alt=f"The image with where the networks looked for {target}",
        )
        if not heat.any():
            st.caption(f"Nothing in the image speaks for {words.plain(target)}.")
    st.caption("The map says where the networks looked: not why, and not that a finding is there.")
    st.download_button(
        "Picture (PNG)",
        lambda: uploads.as_png(image, heat, opacity),
        _file_name(image, "png"),
        "image/png",
        on_click="ignore",
    )


def _file_name(image: Upload, suffix: str) -> str:
    """Return a name for a download: the image's own is never trusted."""
    return f"cxr-{(image.reading.image_id or hashlib.sha256(image.data).hexdigest())[:12]}.{suffix}"


def _download_tables(model: LoadedModel, held: Sequence[Upload]) -> None:
    rows = uploads.table(model, held)
    with st.container(horizontal=True):
        st.download_button(
            "Results (JSON)",
            uploads.as_json(rows, DISCLAIMER),
            "cxr-results.json",
            "application/json",
            on_click="ignore",
        )
        st.download_button(
            "Results (Parquet)",
            uploads.as_parquet(rows),
            "cxr-results.parquet",
            "application/vnd.apache.parquet",
            on_click="ignore",
        )
    st.caption("The tables have the columns of the nightly scores, and call images at the model's own operating point.")
