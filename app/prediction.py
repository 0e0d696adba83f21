"""One image on the view Classify: its predicted class, how sure the model is, and where it looked."""

import hashlib
from dataclasses import dataclass

import streamlit as st

from app import charts, uploads, words
from app.uploads import LoadedModel, Upload
from cxr.config import OperatingPoint
from cxr.network.grad_cam import overlay
from cxr.serving.predictor import Prediction


@dataclass(frozen=True)
class Decision:
    """How probabilities become a predicted class."""

    model: LoadedModel
    point: OperatingPoint | None
    """None for more than two classes: the most probable one is predicted."""
    threshold: float


@dataclass(frozen=True)
class Scored:
    """An image with its prediction, and the class that is predicted at the chosen threshold."""

    image: Upload
    prediction: Prediction
    predicted: str


def show(decision: Decision, scored: Scored) -> None:
    """Show what the model predicts of an image, how sure it is, and where it looked."""
    classes = decision.model.package.classes
    prediction = scored.prediction
    threshold = decision.threshold
    with st.container(border=True):
        st.caption(words.escape(scored.image.name))
        st.header(words.escape(scored.predicted), anchor=False)
        left, right = st.columns(2, gap="large")
        with left:
            st.markdown(words.conclusion(classes, prediction, scored.predicted, decision.point, threshold))
            gauge = st.empty()
        with right:
            st.markdown(words.agreement(classes, prediction, threshold))
            st.markdown(words.meaning(classes, prediction, decision.model.reference, decision.model.package.facts))
            for caution in words.cautions(scored.image.reading, prediction, decision.model.reference):
                st.warning(caution)
        _show_map(decision.model, scored.image, scored.predicted)
        name = words.shown_class(classes, prediction)
        limit = threshold if classes.is_binary else None
        figure = charts.gauge(name, prediction.probability[name], prediction.by_fold[name], limit)
        gauge.plotly_chart(
            figure, config=charts.NO_BAR, alt="The image's probability, that of each fold, and the threshold"
        )


@st.fragment
def _show_map(model: LoadedModel, image: Upload, predicted: str) -> None:
    """Show the image beside where the networks looked; moving the slider redraws these pictures and nothing else."""
    left, right = st.columns(2, gap="large")
    with left:
        targets = model.package.classes if model.finding is None else (model.finding,)
        target = st.segmented_control(
            "Where the model looked for",
            targets,
            default=model.finding or predicted,
            format_func=words.escape,
            required=True,
            wrap=True,
            key=f"target {id(image)} {model.finding or predicted}",
        )
    with right:
        opacity = st.slider("Opacity of the map", 0.0, 1.0, 0.5, 0.05)
    heat = uploads.look(model, image, target)
    name = words.escape(target)
    left, right = st.columns(2, gap="large")
    with left:
        st.image(image.grey, "The image", width="stretch", alt="The image")
    with right:
        laid_over = overlay(image.grey, heat, opacity=opacity)
        alt = f"The image, with where the networks looked for {target}"
        st.image(laid_over, f"Grad-CAM for {name}", width="stretch", alt=alt)
        if not heat.any():
            st.caption(f"Nothing in the image speaks for {name}.")
    st.caption("The map shows where the networks looked. It does not show why, or that there is a finding.")
    picture = _file_name(image, "png")
    st.download_button(
        "Picture (PNG)", lambda: uploads.as_png(image, heat, opacity), picture, "image/png", on_click="ignore"
    )


def _file_name(image: Upload, suffix: str) -> str:
    """Return a name for a download, made from the image's content: its own name is not trusted."""
    return f"cxr-{(image.reading.image_id or hashlib.sha256(image.data).hexdigest())[:12]}.{suffix}"
