"""Images that a visitor brings: read, scored and explained; kept in memory, and only as long as the visitor keeps them.

A file's content decides what it is; its name is shown and used for nothing else. Visitors share a loaded model and take
turns.
"""

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from app import gallery
from app.classify.loading import LoadedModel
from cxr.images.decoding import decode_image
from cxr.images.dicom.body_part import read_other_body_part
from cxr.images.inbox import Arrival
from cxr.report.markup import thumbnail
from cxr.serving.explanations import PICTURE_PX, draw_explanation
from cxr.serving.package import Package
from cxr.serving.predictor import Prediction
from cxr.serving.scoring.scores import score_row, scores_table
from cxr.serving.screening import FileReading, examine_image

STEP = 16
"""Images that are scored before another visitor gets a turn."""
BATCH = "page"
"""The value of the column `batch` in downloaded tables."""


@dataclass
class Upload:
    """A file as it was uploaded, and what is known of it."""

    name: str
    data: bytes
    reading: FileReading
    prediction: Prediction | None = None
    """None until the image is scored; it stays None where the file was refused."""
    body_part: str | None = None
    """What its DICOM header states if that is not the chest, such as HAND; None for any other file."""
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

    @cached_property
    def picture(self) -> str:
        """The image, small, as a data URI."""
        return thumbnail(decode_image(self.data, gallery.PICTURE_PX).grey, gallery.PICTURE_PX)


def read(package: Package, name: str, data: bytes) -> Upload:
    """Return a file as read; one that is not an image says why."""
    reading = examine_image(Arrival(name, "", len(data), 0), data, package.size)
    return Upload(name, data, reading, body_part=None if reading.refused else read_other_body_part(data))


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
    draw_explanation(image.data, heat, opacity).save(stream, "PNG")
    return stream.getvalue()
