"""What the champion and the new networks predict for the images that neither was trained on."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr.evaluation.out_of_fold import OutOfFold
from cxr.images.inbox import Arrival
from cxr.images.source import open_source
from cxr.metrics.calibration import average_folds
from cxr.serving.package import Package
from cxr.serving.predictor import Predictor
from cxr.serving.screening import FileReading, examine_image
from cxr.storage import verified
from cxr.training.predictions import ensemble_logits
from cxr.training.run import Run


def predict_by_both(run: Run, champion: Package, images: pd.DataFrame) -> pd.DataFrame:
    """Return what champion and run predict for images.

    Columns: image_id, path, group_id, label, in_training (whether the champion was made from a copy), and the
    probabilities champion_<class> and challenger_<class>. What the champion refuses is left out.
    """
    source = open_source(run.config.data)
    read = [_read(source.read(path), path, run.config.size) for path in images["path"]]
    readings = [reading for reading in read if reading.refused is None]
    images = images[[reading.refused is None for reading in read]]
    precision = "int8" if champion.has_int8 else "fp32"
    predictor = Predictor(champion, device="auto", precision=precision, compile="off", cache=run.cache)
    predictions = predictor.predict(readings)
    after = _ensemble(run, np.stack([reading.square for reading in readings if reading.square is not None]))
    table = images[["image_id", "path", "group_id", "label"]].reset_index(drop=True)
    table["in_training"] = [prediction.in_training for prediction in predictions]
    for column, name in enumerate(run.classes):
        table[f"champion_{name}"] = [prediction.probability[name] for prediction in predictions]
        table[f"challenger_{name}"] = after[:, column]
    return table


def _read(data: bytes, path: str, size: int) -> FileReading:
    return examine_image(Arrival(path, path, len(data), 0), data, size)


def _ensemble(run: Run, squares: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the calibrated probabilities of a run's networks, averaged, shape (n, n_classes)."""
    inside = OutOfFold(verified.read_table(run.folder.predictions), run.classes)
    return average_folds(inside.calibration, ensemble_logits(run, squares))[0]
