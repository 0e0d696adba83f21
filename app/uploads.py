"""Films that a visitor brings: read, judged and looked into; kept in memory, and no longer than the visitor keeps them.

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

from cxr.images.decoding import decode_film
from cxr.images.inbox import Arrival
from cxr.images.reading import Reading, examine_film
from cxr.images.synthetic import draw_examples
from cxr.network.acceleration import compiled_graphs
from cxr.network.grad_cam import beside, overlay
from cxr.serving import scores
from cxr.serving.explanations import PICTURE_PX
from cxr.serving.package import Package, load_package
from cxr.serving.predictor import Judge, Judgement
from cxr.serving.scores import score_row
from cxr.storage.model_folder import ModelFolder

STEP = 16
"""Films that are judged between two looks at who else is waiting."""
BATCH = "page"
"""Stands in the column `batch` of what is downloaded."""


@dataclass(frozen=True)
class Model:
    """A packaged model in memory, for all visitors."""

    package: Package
    judge: Judge
    reference: pd.DataFrame
    """The films it was made from."""
    turn: Lock = field(default_factory=Lock)


@dataclass
class Film:
    """A file as it came, and what is known of it."""

    name: str
    data: bytes
    reading: Reading
    judgement: Judgement | None = None
    maps: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    """Where the networks looked, by the class that was asked for."""

    @property
    def grey(self) -> NDArray[np.uint8]:
        """The film at its own aspect."""
        return np.asarray(decode_film(self.data, PICTURE_PX).grey)


def load_model(models: Path, name: str, version: str, cache: Path) -> Model:
    """Return a version of a model, loaded once for all visitors, and again when it has been compiled.

    Raises:
        PackageError: it is not there or was changed.
    """
    return _load(models, name, version, cache, compiled_graphs(cache))


@st.cache_resource(max_entries=2, show_spinner="Loading the model …")
def _load(models: Path, name: str, version: str, cache: Path, graphs: Sequence[str]) -> Model:
    package = load_package(ModelFolder.named(models, name).version(version))
    judge = Judge(package, cache=cache)
    example, *_ = draw_examples().values()
    film = read(package, "", example)
    # networks and libraries: what the first visitor would wait for otherwise
    judge.judge([film.reading])
    (heat,) = judge.look([film.reading], package.classes[:1])
    overlay(film.grey, heat)
    return Model(package, judge, package.films())


def read(package: Package, name: str, data: bytes) -> Film:
    """Return a file, read; what is no film says why."""
    return Film(name, data, examine_film(Arrival(name, "", len(data), 0), data, package.size))


def judge(model: Model, films: Sequence[Film], tell: Callable[[int], object] = lambda n: None) -> None:
    """Judge the films that have not been; tell how many are done."""
    new = [film for film in films if film.judgement is None and film.reading.refused is None]
    for start in range(0, len(new), STEP):
        part = new[start : start + STEP]
        with model.turn:
            judgements = model.judge.judge([film.reading for film in part])
        for film, judgement in zip(part, judgements, strict=True):
            film.judgement = judgement
        tell(start + len(part))


def look(model: Model, film: Film, target: str) -> NDArray[np.float32]:
    """Return where the networks see a class in a film, shape (size, size), 0 to 1."""
    if target not in film.maps:
        with model.turn:
            film.maps[target] = model.judge.look([film.reading], [target])[0]
    return film.maps[target]


def table(model: Model, films: Sequence[Film]) -> pd.DataFrame:
    """Return the films' rows as they stand in the nightly scores."""
    rows = []
    for film in films:
        answer = film.judgement.columns | film.reading.measures if film.judgement else {}
        rows.append(score_row(model.package, BATCH, film.reading, answer))
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
    return json.dumps({"note": disclaimer, "films": records}, indent=2, ensure_ascii=False)


def as_png(film: Film, heat: NDArray[np.float32], opacity: float) -> bytes:
    """Return the film beside the film with its map, as PNG."""
    grey, stream = film.grey, io.BytesIO()
    beside(grey, overlay(grey, heat, opacity=opacity)).save(stream, "PNG")
    return stream.getvalue()
