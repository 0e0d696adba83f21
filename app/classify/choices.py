"""What a visitor chooses on the view Classify before there are images: a model, a finding, a threshold."""

from pathlib import Path

import streamlit as st

from app import words
from app.classify import loading
from app.classify.loading import LoadedModel
from app.classify.prediction import Decision
from app.server import Folders
from cxr.classes import Findings
from cxr.config import OperatingPoint
from cxr.serving.origin import describe_origin
from cxr.serving.registry import champion_version, list_models
from cxr.storage.model_folder import ModelFolder
from cxr.wording import visible

FIRST = {
    "cxr demo": "trains a model on synthetic images, in minutes;",
    "cxr package RUN --name NAME --promote": "makes a model from a run of yours.",
}


def choose_model(folders: Folders) -> LoadedModel | None:
    """Return the model that the visitor chooses, by default a champion; say what to do first if there is none."""
    versions = list_models(folders.models)
    if versions.empty:
        st.info("There is no model yet. Type in a terminal:\n" + words.first_steps(FIRST))
        return None
    rows = versions.sort_values("champion", ascending=False, kind="stable")
    options = [(str(row.name), str(row.version)) for row in rows[["name", "version"]].itertuples(index=False)]
    chosen = st.selectbox("Model", options, format_func=lambda option: _model_name(folders.models, *option))
    return loading.load_model(folders.models, *chosen, folders.cache)


def _model_name(models: Path, name: str, version: str) -> str:
    is_champion = champion_version(ModelFolder.named(models, name)) == version
    return f"{name}, version {version}" + (", champion" if is_champion else "")


def choose_finding(model: LoadedModel) -> LoadedModel:
    """Return the model for the one of several findings that the visitor chooses; a model of classes as it is."""
    outputs = model.package.outputs
    if not isinstance(outputs, Findings):
        return model
    return model.of(st.selectbox("Finding", list(outputs), format_func=visible, width=420))


def choose_threshold(model: LoadedModel) -> Decision:
    """Return how the visitor wants probabilities to become a predicted class, by default as the package does."""
    package = model.package
    if not package.thresholds:
        return Decision(model, None, 0.5)
    points: list[OperatingPoint] = list(package.thresholds)
    name = words.escape(package.classes[1])
    point: OperatingPoint = st.pills(
        f"Predict {name} from which probability on?",
        points,
        required=True,
        wrap=True,
        default=package.operating_point,
        format_func=lambda point: f"{words.point_label(point)}: {package.thresholds[point]:.1%}",
        help=f"Where these thresholds come from: {words.escape(describe_origin(package.facts))}. At *balanced*, a "
        "network's two outputs are equal; *Youden* has the largest sum of sensitivity and specificity; the last two "
        "reach 95% of one or of the other.",
    )
    return Decision(model, point, package.thresholds[point])
