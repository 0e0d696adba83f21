"""Images that a visitor brings: read, scored and explained; kept in memory, and only as long as the visitor keeps them.

A file's content decides what it is; its name is shown and used for nothing else. Visitors share a loaded model and take
turns.
"""

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock

import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray

from cxr.classes import Findings
from cxr.evaluation.findings import label_as_two_classes
from cxr.images.decoding import decode_image
from cxr.images.inbox import Arrival
from cxr.images.synthetic import draw_examples
from cxr.network.acceleration import compiled_graphs
from cxr.network.grad_cam import beside, overlay
from cxr.serving.explanations import PICTURE_PX
from cxr.serving.package import Package, load_package
from cxr.serving.predictor import Prediction, Predictor
from cxr.serving.scoring.scores import score_row, scores_table
from cxr.serving.screening import FileReading, examine_image
from cxr.storage.model_folder import ModelFolder

STEP = 16
"""Images that are scored before another visitor gets a turn."""
BATCH = "page"
"""The value of the column `batch` in downloaded tables."""


@dataclass(frozen=True)
class LoadedModel:
    """A packaged model in memory, shared by all visitors."""

    package: Package
    predictor: Predictor
    reference: pd.DataFrame
    """The images that the model was made from."""
    turn: Lock = field(default_factory=Lock)
    """Held by the visitor whose images are in the network."""
    finding: str | None = None
    """The one of several findings that is looked at; None for classes."""

    def of(self, finding: str) -> "LoadedModel":
        """Return this model for one of several findings, as two classes: its absence, and the finding."""
        if not isinstance(self.package.outputs, Findings):
            return self
        reference = label_as_two_classes(self.reference, self.package.outputs, finding)
        return replace(self, package=self.package.of(finding), reference=reference, finding=finding)


@dataclass
class Upload:
    """A file as it was uploaded, and what is known of it."""

    name: str
    data: bytes
    reading: FileReading
    prediction: Prediction | None = None
    """None until the image is scored; it stays None where the file was refused."""
    maps: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    """Where the networks looked, by class."""

    @property
    def is_new(self) -> bool:
        """Whether the image is still to be scored."""
        return self.prediction is None and self.reading.refused is None

    @property
    def grey(self) -> NDArray[np.uint8]:
        """The image at its own aspect ratio, shape (height, width)."""
        return np.asarray(decode_image(self.data, PICTURE_PX).grey)


def load_model(models: Path, name: str, version: str, cache: Path) -> LoadedModel:
    """Return a version of a model, loaded once for all visitors, and again after it has been compiled.

    Raises:
        PackageError: the version does not exist or was changed.
    """
    return _load(models, name, version, cache, compiled_graphs(cache))


@st.cache_resource(max_entries=2, show_spinner="Loading the model …")
def _load(models: Path, name: str, version: str, cache: Path, graphs: Sequence[str]) -> LoadedModel:
    package = load_package(ModelFolder.named(models, name).version(version))
    predictor = Predictor(package, cache=cache)
    _warm_up(package, predictor)
    return LoadedModel(package, predictor, package.images())


def _warm_up(package: Package, predictor: Predictor) -> None:
    """Load networks and libraries, which the first visitor would wait for otherwise."""
    example, *_ = draw_examples().values()
    image = read(package, "", example)
    predictor.predict([image.reading])
    (heat,) = predictor.look([image.reading], package.outputs[:1])
    overlay(image.grey, heat)


def read(package: Package, name: str, data: bytes) -> Upload:
    """Return a file as read; one that is not an image says why."""
    return Upload(name, data, examine_image(Arrival(name, "", len(data), 0), data, package.size))


def predict(model: LoadedModel, images: Sequence[Upload], report: Callable[[int], object] = lambda n: None) -> None:
    """Score the images that are new.

    Args:
        model: which model scores them.
        images: gets the predictions.
        report: called with the number of images that are done.
    """
    new = [image for image in images if image.is_new]
    for start in range(0, len(new), STEP):
        part = new[start : start + STEP]
        with model.turn:
            predictions = model.predictor.predict([image.reading for image in part])
        for image, prediction in zip(part, predictions, strict=True):
            image.prediction = prediction
        report(start + len(part))


def look(model: LoadedModel, image: Upload, target: str) -> NDArray[np.float32]:
    """Return where the networks see a class in an image, shape (size, size), 0 to 1."""
    if target not in image.maps:
        with model.turn:
            image.maps[target] = model.predictor.look([image.reading], [target])[0]
    return image.maps[target]


def table(model: LoadedModel, images: Sequence[Upload]) -> pd.DataFrame:
    """Return one row per image, with the columns of the scores."""
    rows = []
    for image in images:
        answer = image.prediction.columns | image.reading.measures if image.prediction else {}
        rows.append(score_row(model.package, BATCH, image.reading, answer))
    return scores_table(rows, model.package.outputs)


def as_parquet(rows: pd.DataFrame) -> bytes:
    """Return rows as a Parquet file."""
    stream = io.BytesIO()
    rows.to_parquet(stream, index=False)
    return stream.getvalue()


def as_json(rows: pd.DataFrame, disclaimer: str) -> str:
    """Return rows as JSON under `images`, with the disclaimer under `note`."""
    plain = rows.assign(scored_at=[time.isoformat() for time in rows["scored_at"]]).astype(object)
    records = plain.where(plain.notna(), None).to_dict("records")
    return json.dumps({"note": disclaimer, "images": records}, indent=2, ensure_ascii=False)


def as_png(image: Upload, heat: NDArray[np.float32], opacity: float) -> bytes:
    """Return the image beside the same image with its map, as PNG.

    Args:
        image: the image.
        heat: its map, shape (size, size), 0 to 1.
        opacity: of the map where it is strongest, 0 to 1.
    """
    stream = io.BytesIO()
    beside(image.grey, overlay(image.grey, heat, opacity=opacity)).save(stream, "PNG")
    return stream.getvalue()
