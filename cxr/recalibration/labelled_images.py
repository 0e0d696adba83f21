"""Labelled images of another site, read and predicted by a packaged model for `cxr recalibrate`.

An image that cannot be used, a copy, and an image that the model was made from are left out, each with a line in the
log: the last would flatter the model. A file that has two labels is refused.
"""

import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr.classes import Classes
from cxr.errors import DataError, UnreadableError
from cxr.images.inbox import Arrival
from cxr.images.source import Source
from cxr.metrics.recalibration import log_of
from cxr.recalibration.labels import Labels
from cxr.serving.package import Package
from cxr.serving.predictor import Predictor
from cxr.serving.screening import FileReading, examine_image
from cxr.wording import visible

log = logging.getLogger(__name__)

STEP = 128
"""Images that are decoded before the networks see them."""
LEAST = 5
"""Patients (images, where patients are unknown) that each class needs: fewer say next to nothing of a threshold."""


@dataclass(frozen=True)
class LabelledImages:
    """Images that the model was not made from, with their labels and what the model predicts."""

    table: pd.DataFrame
    """Columns image_id, label, group (the patient; the image where it is unknown)."""
    log_probability: NDArray[np.float64]
    """Of each fold, calibrated as in the package, shape (n_folds, n, n_classes)."""
    squares: NDArray[np.uint8]
    """Shape (n, size, size)."""
    left_out: dict[str, int]
    """How many rows were left out, by reason: unreadable, copy, in_training."""
    n_patients: int | None
    """None if no patient is known."""

    def n_by_class(self, classes: Classes) -> dict[str, int]:
        """Return how many images each class has."""
        return {name: int((self.table["label"] == name).sum()) for name in classes}


def predict_labelled(package: Package, labels: Labels, *, device: str, cache: Path) -> LabelledImages:
    """Read and predict labelled images.

    Args:
        package: the model.
        labels: of the images.
        device: cpu, cuda:<index>, or auto.
        cache: keeps compiled graphs.

    Raises:
        DataError: two files with the same content have different labels, or a class has too few patients.
    """
    precision = "int8" if package.has_int8 else "fp32"
    predictor = Predictor(package, device=device, precision=precision, compile="off", cache=cache)
    parts: list[pd.DataFrame] = []
    squares: list[NDArray[np.uint8]] = []
    for start in range(0, len(labels.rows), STEP):
        rows = labels.rows.iloc[start : start + STEP].reset_index(drop=True)
        readings = _read(labels.source, rows, package.size)
        parts.append(pd.concat([rows, _predicted(predictor, readings)], axis=1))
        squares += [np.zeros((0, 0), np.uint8) if r.square is None else r.square for r in readings]
    table = pd.concat(parts, ignore_index=True)
    is_kept, left_out = _leave_out(table)
    kept = table[is_kept]
    _require_enough(kept, package, labels, left_out)
    return LabelledImages(
        kept[["image_id", "label"]].assign(group=_groups(kept)).reset_index(drop=True),
        np.stack(kept["log_probability"].tolist(), axis=1),
        np.stack([square for square, is_used in zip(squares, is_kept, strict=True) if is_used]),
        left_out,
        kept.loc[kept["patient_id"] != "", "patient_id"].nunique() or None,
    )


def _read(source: Source, rows: pd.DataFrame, size: int) -> list[FileReading]:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(partial(_read_image, source, size=size), rows["path"]))


def _read_image(source: Source, path: str, *, size: int) -> FileReading:
    arrival = Arrival(path, path, 0, 0)
    try:
        data = source.read(path)
    except MemoryError:
        raise
    except Exception as error:  # OSError; from a damaged zip also BadZipFile, zlib.error, EOFError, struct.error, …
        return FileReading(arrival, refused=UnreadableError("unreadable", str(error)))
    return examine_image(replace(arrival, n_bytes=len(data)), data, size)


def _predicted(predictor: Predictor, readings: Sequence[FileReading]) -> pd.DataFrame:
    """Return the columns image_id, refused, in_training, and log_probability: an array (n_folds, n_classes)."""
    predictions = iter(predictor.predict([reading for reading in readings if reading.refused is None]))
    answers = [next(predictions) if reading.refused is None else None for reading in readings]
    classes = predictor.package.classes
    columns = {
        "image_id": [reading.image_id for reading in readings],
        "refused": [None if reading.refused is None else str(reading.refused) for reading in readings],
        "in_training": [answer is not None and answer.in_training for answer in answers],
        "log_probability": [
            None if answer is None else log_of(np.array([answer.by_fold[name] for name in classes]).T)
            for answer in answers
        ],
    }
    return pd.DataFrame(columns, dtype=object)


def _leave_out(table: pd.DataFrame) -> tuple[NDArray[np.bool_], dict[str, int]]:
    """Return which rows are used, shape (n,), and how many are not, by reason; say why in the log."""
    is_unreadable = table["refused"].notna().to_numpy()
    for row in table[is_unreadable].itertuples():
        log.warning("left out: %s: %s", visible(row.path), row.refused)
    is_copy = _copies(table, ~is_unreadable)
    for row in table[is_copy].itertuples():
        log.warning("left out: %s has the same content as an image before it", visible(row.path))
    in_training = table["in_training"].to_numpy(bool) & ~is_copy
    for row in table[in_training].itertuples():
        log.warning("left out: %s: the model was made from this image, or a copy of it", visible(row.path))
    reasons = {"unreadable": is_unreadable, "copy": is_copy, "in_training": in_training}
    is_kept = ~(is_unreadable | is_copy | in_training)
    return is_kept, {reason: int(rows.sum()) for reason, rows in reasons.items()}


def _copies(table: pd.DataFrame, is_readable: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which rows have the same bytes as a row before them, shape (n,).

    Raises:
        DataError: such rows have different labels.
    """
    readable = table[is_readable]
    for _, same in readable.groupby("image_id", sort=False):
        if same["label"].nunique() > 1:
            first, other = same.drop_duplicates("label").head(2).itertuples()
            raise DataError(
                f"{first.path!r} is {first.label} and {other.path!r} is {other.label}, but the two files are the same: "
                "correct the labels."
            )
    return (table["image_id"].duplicated() & is_readable).to_numpy()


def _groups(rows: pd.DataFrame) -> pd.Series:
    """Return the patient of each row; of a row without one, the row itself."""
    return ("patient " + rows["patient_id"]).where(rows["patient_id"] != "", "image " + rows["image_id"])


def _require_enough(rows: pd.DataFrame, package: Package, labels: Labels, left_out: dict[str, int]) -> None:
    counts = _groups(rows).groupby(rows["label"]).nunique().reindex(package.classes, fill_value=0)
    if (counts >= LEAST).all():
        return
    what = "patients" if (rows["patient_id"] != "").any() else "images"
    found = ", ".join(f"{n} of {visible(name)}" for name, n in counts.items())
    lost = ", ".join(f"{n} {reason.replace('_', ' ')}" for reason, n in left_out.items() if n)
    raise DataError(
        f"each class needs {LEAST} {what} or more, and the {len(labels.rows)} rows leave {found}"
        f"{f' (left out: {lost})' if lost else ''}: label more images."
    )
