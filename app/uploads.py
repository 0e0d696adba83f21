"""Images that a visitor brings: read, judged and looked into; kept in memory, and no longer than the visitor keeps them.

A file's content decides what it is; its name is shown and nothing more. Visitors share a loaded model and take turns.
"""

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray

from cxr.images.decoding import decode_image
from cxr.images.inbox import Arrival
from cxr.images.synthetic import draw_examples
from cxr.network.acceleration import compiled_graphs
from cxr.network.grad_cam import beside, overlay
from cxr.serving import scores
from cxr.serving.explanations import PICTURE_PX
from cxr.serving.package import Package, load_package
from cxr.serving.predictor import Prediction, Predictor
from cxr.serving.scores import score_row
from cxr.serving.screening import FileReading, examine_image
from cxr.storage.model_folder import ModelFolder

STEP = 16
"""Images that are judged between two looks at who else is waiting."""
BATCH = "page"
"""Stands in the column `batch` of what is downloaded."""


@dataclass(frozen=True)
class LoadedModel:
    """A packaged model in memory, for all visitors."""

    package: Package
    predictor: Predictor
    reference: pd.DataFrame
    """The images it was made from."""
    turn: Lock = field(default_factory=Lock)


@dataclass
class Upload:
    """A file as it came, and what is known of it."""

    name: str
    data: bytes
    reading: FileReading
    prediction: Prediction | None = None
    maps: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    """Where the networks looked, by the class that was asked for."""

    @property
    def grey(self) -> NDArray[np.uint8]:
        """The image at its own aspect."""
        return np.asarray(decode_image(self.data, PICTURE_PX).grey)


def load_model(models: Path, name: str, version: str, cache: Path) -> LoadedModel:
    """Return a version of a model, loaded once for all visitors, and again when it has been compiled.

    Raises:
        PackageError: it is not there or was changed.
    """
    return _load(models, name, version, cache, compiled_graphs(cache))


@st.cache_resource(max_entries=2, show_spinner="Loading the model …")
def _load(models: Path, name: str, version: str, cache: Path, graphs: Sequence[str]) -> LoadedModel:
    package = load_package(ModelFolder.named(models, name).version(version))
    predictor = Predictor(package, cache=cache)
    example, *_ = draw_examples().values()
    image = read(package, "", example)
    # networks and libraries: what the first visitor would wait for otherwise
    predictor.predict([image.reading])
    (heat,) = predictor.look([image.reading], package.classes[:1])
    overlay(image.grey, heat)
    return LoadedModel(package, predictor, package.images())


def read(package: Package, name: str, data: bytes) -> Upload:
    """Return a file, read; what is no image says why."""
    return Upload(name, data, examine_image(Arrival(name, "", len(data), 0), data, package.size))


def predict(model: LoadedModel, images: Sequence[Upload], tell: Callable[[int], object] = lambda n: None) -> None:
    """Evaluate the images that have not been; tell how many are done."""
    new = [image for image in images if image.prediction is None and image.reading.refused is None]
    for start in range(0, len(new), STEP):
        part = new[start : start + STEP]
        with model.turn:
            predictions = model.predictor.predict([image.reading for image in part])
        for image, prediction in zip(part, predictions, strict=True):
            image.prediction = prediction
        tell(start + len(part))


def look(model: LoadedModel, image: Upload, target: str) -> NDArray[np.float32]:
    """Return where the networks see a class in an image, shape (size, size), 0 to 1."""
    if target not in image.maps:
        with model.turn:
            image.maps[target] = model.predictor.look([image.reading], [target])[0]
    return image.maps[target]


def table(model: LoadedModel, images: Sequence[Upload]) -> pd.DataFrame:
    """Return the images' rows as they stand in the nightly scores."""
    rows = []
    for image in images:
        answer = image.prediction.columns | image.reading.measures if image.prediction else {}
        rows.append(score_row(model.package, BATCH, image.reading, answer))
    return scores.scores_table(rows, model.package.classes)


def as_parquet(rows: pd.DataFrame) -> bytes:
    """Return rows as a Parquet file."""
    stream = io.BytesIO()
    rows.to_parquet(stream, index=False)
    return stream.getvalue()


def as_json(rows: pd.DataFrame, disclaimer: str) -> str:
    """Return rows as JSON, with a note on what they are not."""
    plain = rows.assign(scored_at=[time.isoformat() for time in rows["scored_at"]]).astype(object)
    records = plain.where(plain.notna(), None).to_dict("records")
    return json.dumps({"note": disclaimer, "images": records}, indent=2, ensure_ascii=False)


def as_png(image: Upload, heat: NDArray[np.float32], opacity: float) -> bytes:
    """Return the image beside the image with its map, as PNG."""
    grey, stream = image.grey, io.BytesIO()
    beside(grey, overlay(grey, heat, opacity=opacity)).save(stream, "PNG")
    return stream.getvalue()
