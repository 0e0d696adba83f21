"""The champion's predictions for single images, each with a picture of where the networks looked.

An image is read and predicted exactly as in a scoring run (see `predictor`), so it gets the same probability. Only the
pictures and a table are written, in a folder of their own, and compiled graphs in the cache; images are only read.
"""

import logging
from collections.abc import Mapping, Sequence
from operator import itemgetter
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from cxr.classes import Findings
from cxr.errors import ConfigError, DataError
from cxr.images.decoding import decode_image
from cxr.images.inbox import read_arrival, single_file
from cxr.network.heat_map import beside, map_method, overlay
from cxr.serving.package import Package
from cxr.serving.predictor import Predictor
from cxr.serving.screening import FileReading, read_image
from cxr.storage import files
from cxr.storage.run_folder import ExplanationFolder

log = logging.getLogger(__name__)

PICTURE_PX = 512
"""Images are decoded at this size or more for a picture."""


def explain_images(
    package: Package,
    paths: Sequence[Path],
    folder: ExplanationFolder,
    *,
    target: str | None = None,
    opacity: float = 0.5,
    device: str = "auto",
    cache: Path = Path("cache"),
) -> pd.DataFrame:
    """Predict images and draw where the networks looked; write and return one row per file.

    Columns: path, status, reason, detail, image_id, probability_<class>, predicted_label (for findings
    called_<finding>), fold_spread, in_training, novelty, unlike_training, arithmetic, answer, prediction_set, target,
    map, picture.

    Args:
        package: the model.
        paths: image files.
        folder: gets `<number>-<name>.png` for each image, the image beside its map, and `explanations.parquet`.
        target: class or finding to look for; if None the predicted class, or the finding whose probability is highest
            above its threshold, or least below it.
        opacity: of the map where it is strongest, 0 to 1.
        device: cpu, cuda:<index>, or auto.
        cache: keeps compiled graphs.

    Raises:
        ConfigError: the model has no such class, or the opacity is out of range.
        DataError: none of the files is an image.
    """
    _require_valid(package, target, opacity)
    readings = [read_image(single_file(path), package.size) for path in paths]
    numbers = [number for number, reading in enumerate(readings) if reading.square is not None]
    images = [readings[number] for number in numbers]
    if not images:
        raise DataError(f"none of the {len(paths)} files is an image; the first: {readings[0].refused}")
    predictor = Predictor(package, device=device, cache=cache)
    predictions = predictor.predict(images)
    targets = [target or default_target(package, each.probability, each.predicted) for each in predictions]
    heat = predictor.look(images, targets)
    pictures = _write_pictures(folder, numbers, images, heat, opacity)
    method = str(map_method(package.size))
    answers = [
        prediction.columns | {"target": looked_for, "map": method, "picture": picture.name}
        for prediction, looked_for, picture in zip(predictions, targets, pictures, strict=True)
    ]
    table = _table(readings, dict(zip(numbers, answers, strict=True)))
    files.write_table(folder.table, table)
    return table


def default_target(package: Package, probability: Mapping[str, float], predicted: str) -> str:
    """Return the predicted class; of findings, the one that is most surely predicted, or is nearest to it.

    Args:
        package: the model.
        probability: by class or finding.
        predicted: the class that is predicted; of findings it is not looked at.
    """
    if not isinstance(package.outputs, Findings):
        return predicted
    limits = zip(package.outputs, package.limits.tolist(), strict=True)
    return max(((name, probability[name] - limit) for name, limit in limits), key=itemgetter(1))[0]


def _require_valid(package: Package, target: str | None, opacity: float) -> None:
    if target is not None and target not in package.outputs:
        raise ConfigError(f"--class must be one of {', '.join(package.outputs)}, got {target!r}.")
    if not 0 <= opacity <= 1:
        raise ConfigError(f"--opacity must lie between 0 and 1, got {opacity!r}.")


def _table(readings: Sequence[FileReading], answers: Mapping[int, dict[str, object]]) -> pd.DataFrame:
    """Return one row per file; `answers` has the columns of each image, by its place among the files."""
    table = pd.DataFrame([_facts(reading) | answers.get(number, {}) for number, reading in enumerate(readings)])
    types = dict.fromkeys(("reason", "detail", "answer", "prediction_set"), "str") | {"unlike_training": "boolean"}
    return table.astype(types)  # also where every file is an image, or the package has no limit and refers none


def _facts(reading: FileReading) -> dict[str, object]:
    refused = reading.refused
    return {
        "path": reading.arrival.path,
        "status": "quarantined" if refused else "ok",
        "reason": refused.reason if refused else None,
        "detail": refused.detail if refused else None,
        "image_id": reading.image_id,
    }


def _write_pictures(
    folder: ExplanationFolder,
    numbers: Sequence[int],
    images: Sequence[FileReading],
    heat: NDArray[np.float32],
    opacity: float,
) -> list[Path]:
    """Write each image beside its map, numbered from 1 by its place among the files; return the files written."""
    names = [Path(image.arrival.path).stem for image in images]
    paths = [folder.picture(number + 1, name) for number, name in zip(numbers, names, strict=True)]
    for path, image, map_of_image in zip(paths, images, heat, strict=True):
        _write_picture(path, image, map_of_image, opacity)
    return paths


def _write_picture(path: Path, image: FileReading, heat: NDArray[np.float32], opacity: float) -> None:
    picture = draw_explanation(read_arrival(image.arrival), heat, opacity)
    with files.replacing(path) as temporary:
        picture.save(temporary, "PNG")


def draw_explanation(data: bytes, heat: NDArray[np.float32], opacity: float) -> Image.Image:
    """Return an image beside the same image with its map, at 512 px or more a side if the image has as many.

    Args:
        data: the image's bytes; the image was not refused.
        heat: its map, shape (size, size), 0 to 1.
        opacity: of the map where it is strongest, 0 to 1.
    """
    grey = np.asarray(decode_image(data, PICTURE_PX).grey)
    return beside(grey, overlay(grey, heat, opacity=opacity))
