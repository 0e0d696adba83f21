"""Packaged models in memory, shared by all visitors: loaded in steps, with a bar for the visitor who waits."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event, Lock

import numpy as np
import pandas as pd
import streamlit as st

from cxr.classes import Findings
from cxr.evaluation.findings import label_as_two_classes
from cxr.images.decoding import decode_image
from cxr.images.inbox import Arrival
from cxr.images.synthetic import draw_examples
from cxr.network.acceleration import compiled_graphs
from cxr.network.heat_map import overlay
from cxr.serving.explanations import PICTURE_PX
from cxr.serving.package import Package, load_package
from cxr.serving.predictor import Predictor
from cxr.serving.screening import examine_image
from cxr.storage.model_folder import ModelFolder

Report = Callable[[float, str], object]
"""Called with the share that is done, 0 to 1, and what is done next."""


@dataclass(frozen=True)
class LoadedModel:
    """A packaged model in memory, shared by all visitors."""

    package: Package
    predictor: Predictor
    reference: pd.DataFrame
    """The images that the model was made from."""
    turn: Lock = field(default_factory=Lock)
    """Held by the visitor whose images are in the network."""
    is_ready: Event = field(default_factory=Event)
    """Set once its networks are loaded."""
    finding: str | None = None
    """The one of several findings that is looked at; None for classes."""

    def of(self, finding: str) -> "LoadedModel":
        """Return this model for one of several findings, as two classes: its absence, and the finding."""
        if not isinstance(self.package.outputs, Findings):
            return self
        reference = label_as_two_classes(self.reference, self.package.outputs, finding)
        return replace(self, package=self.package.of(finding), reference=reference, finding=finding)


def load_model(models: Path, name: str, version: str, cache: Path) -> LoadedModel:
    """Return a version of a model, loaded once for all visitors, and again after it has been compiled.

    Raises:
        PackageError: the version does not exist or was changed.
    """
    model = _read(models, name, version, cache, compiled_graphs(cache))
    if not model.is_ready.is_set():
        place = st.empty()
        try:
            prepare(model, place.progress)
        finally:
            place.empty()
    return model


@st.cache_resource(max_entries=2, show_spinner="Loading the model: checking its files …")
def _read(models: Path, name: str, version: str, cache: Path, graphs: Sequence[str]) -> LoadedModel:
    package = load_package(ModelFolder.named(models, name).version(version))
    return LoadedModel(package, Predictor(package, cache=cache), package.images())


def prepare(model: LoadedModel, report: Report) -> None:
    """Load networks and libraries, which the first image would wait for otherwise.

    Args:
        model: is ready afterwards.
        report: called before each step.
    """
    steps: dict[str, Callable[[], object]] = {
        "reading the networks": lambda: model.predictor.ensemble,
        "reading the networks for the maps": lambda: model.predictor.networks,
        "trying a drawn image": lambda: _try_out(model),
    }
    report(0.0, "Loading the model …")
    with model.turn:
        if model.is_ready.is_set():  # another visitor has waited for it
            return
        for k, (what, step) in enumerate(steps.items(), start=1):
            report(k / (len(steps) + 1), f"Loading the model: {what} …")
            step()
        model.is_ready.set()


def _try_out(model: LoadedModel) -> None:
    example, *_ = draw_examples().values()
    reading = examine_image(Arrival("", "", len(example), 0), example, model.package.size)
    model.predictor.predict([reading])
    (heat,) = model.predictor.look([reading], model.package.outputs[:1])
    overlay(np.asarray(decode_image(example, PICTURE_PX).grey), heat)
