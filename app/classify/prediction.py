"""One image on the view Classify: its predicted class, how sure the model is, and where it looked."""

import hashlib
from dataclasses import dataclass

import streamlit as st

from app import charts, gallery, words
from app.classify import uploads
from app.classify.loading import LoadedModel
from app.classify.uploads import Upload
from cxr.classes import REFER
from cxr.config import OperatingPoint
from cxr.network.heat_map import map_method, overlay
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

    @property
    def is_stranger(self) -> bool:
        """Whether the image is none that the model knows: its header says so, or its distance from the others."""
        return self.image.body_part is not None or bool(self.prediction.unlike_training)

    @property
    def headline(self) -> str:
        """The predicted class, that a person should look, or why the image has no class that means anything."""
        if self.image.body_part is not None:
            return words.NO_CHEST
        if self.prediction.unlike_training:
            return words.UNLIKE_TRAINING
        if self.prediction.answer == REFER:
            return words.referral(self.prediction.fitting or (), len(self.prediction.probability))
        return words.escape(self.predicted)


def show_cautions(model: LoadedModel, scored: Scored) -> None:
    """Show what speaks against trusting a prediction, in one box; nothing if nothing does."""
    stated = scored.image.body_part
    of_header = [] if stated is None else [words.other_body_part(stated)]
    cautions = of_header + words.cautions(scored.image.reading, scored.prediction, model.reference)
    if cautions:
        st.warning("\n\n".join(cautions))


def show(decision: Decision, scored: Scored) -> None:
    """Show what the model predicts of an image, how sure it is, and where it looked.

    The prediction of an image that the model does not know is folded up: an unusual patient may be among these.
    """
    st.caption(words.escape(scored.image.name))
    show_cautions(decision.model, scored)
    st.header(scored.headline, anchor=False)
    if not scored.is_stranger:
        _show_prediction(decision, scored)
        return
    st.image(scored.image.picture, width=gallery.PICTURE_PX, alt=f"Image {scored.image.name}")
    with st.expander("What the model predicts all the same"):
        _show_prediction(decision, scored)


def _show_prediction(decision: Decision, scored: Scored) -> None:
    classes = decision.model.package.classes
    prediction = scored.prediction
    threshold = decision.threshold
    left, right = st.columns(2, gap="medium")
    with left:
        st.markdown(words.conclusion(classes, prediction, scored.predicted, decision.point, threshold))
        referral = decision.model.package.referral
        if referral is not None and prediction.fitting is not None:
            st.markdown(words.answer(prediction.fitting, len(classes), referral.level))
        gauge = st.empty()
    with right:
        st.markdown(words.agreement(classes, prediction, threshold))
        st.markdown(words.meaning(classes, prediction, decision.model.reference, decision.model.package.facts))
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
    left, right = st.columns(2, gap="medium")
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
    left, right = st.columns(2, gap="medium")
    with left:
        st.image(image.grey, "The image", width="stretch", alt="The image")
    with right:
        laid_over = overlay(image.grey, heat, opacity=opacity)
        alt = f"The image, with where the networks looked for {target}"
        st.image(laid_over, f"{map_method(model.package.size)} for {name}", width="stretch", alt=alt)
        if not heat.any():
            st.caption(f"Nothing in the image speaks for {name}.")
    st.caption(
        "The map shows where the networks looked: the brighter, the more. It does not show why, or that there is a "
        "finding."
    )
    picture = _file_name(image, "png")
    st.download_button(
        "Picture (PNG)", lambda: uploads.as_png(image, heat, opacity), picture, "image/png", on_click="ignore"
    )


def _file_name(image: Upload, suffix: str) -> str:
    """Return a name for a download, made from the image's content: its own name is not trusted."""
    return f"cxr-{(image.reading.image_id or hashlib.sha256(image.data).hexdigest())[:12]}.{suffix}"
