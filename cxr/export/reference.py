"""The reference of a package: the images that a model was made from, measured, and how novelty is measured.

Drift and novelty of later images are judged by it.
"""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr.classes import Findings
from cxr.config import OperatingPoint
from cxr.evaluation.drift_reference import measure_images
from cxr.export.evaluated import Evaluated, Features
from cxr.export.fitted import Fitted, FittedFindings
from cxr.images.vitals import fingerprint
from cxr.metrics.calibration import predict_labels
from cxr.serving.novelty import CONFIDENCE, UNLIKE_SHARE, ImageNovelty, brightness_map, fit_novelty, novelty_limit
from cxr.storage import files, verified
from cxr.storage.model_folder import PackageFolder
from cxr.training.run import Run

N_NOVELTY = 2000
"""Training images that the measure of novelty is fitted on."""


def write_reference(
    folder: PackageFolder,
    evaluated: Evaluated,
    run: Run,
    fitted: Fitted | FittedFindings,
    point: OperatingPoint,
) -> dict[str, Any]:
    """Write the reference images, which drift is measured against, and the measure of novelty; return its limit.

    Args:
        folder: of the package.
        evaluated: how its networks predict.
        run: the finished run.
        fitted: its calibration and thresholds.
        point: its operating point.
    """
    out_of_fold = evaluated.out_of_fold
    probability = fitted.calibration.probability(out_of_fold.logits)
    images, novelty = reference_of(evaluated.features, run, out_of_fold.predictions, probability)
    decided = _decided(run, out_of_fold.predictions, fitted, probability, point)
    files.write_table(folder.images, images.assign(**decided))
    novelty.save(folder.novelty)
    distance = images["novelty"].dropna().to_numpy()
    return {
        "limit": novelty_limit(distance),
        "n_images": len(distance),
        "share": UNLIKE_SHARE,
        "confidence": CONFIDENCE,
    }


def _decided(
    run: Run,
    predictions: pd.DataFrame,
    fitted: Fitted | FittedFindings,
    probability: NDArray[np.float64],
    point: OperatingPoint,
) -> dict[str, Any]:
    """Return what is predicted of the reference images, by column; of findings, their labels too."""
    if isinstance(fitted, Fitted):
        return {"predicted_label": predict_labels(probability, run.classes, fitted.thresholds.get(point, 0.5))}
    findings = Findings(fitted.thresholds)
    limits = np.array([thresholds[point] for thresholds in fitted.thresholds.values()])
    called = dict(zip(findings.called_columns, (probability >= limits).T, strict=True))
    return {column: predictions[column] for column in findings.columns} | called


def reference_of(
    features: Features, run: Run, predictions: pd.DataFrame, probability: NDArray[np.float64]
) -> tuple[pd.DataFrame, ImageNovelty]:
    """Return the images that the model was made from, and the measure of novelty.

    Novelty is fitted on training images of fold 0's network and measured on the images which that network never
    saw, as the images of a batch will be; for the others it is missing.

    Args:
        features: of fold 0's network, in the arithmetic that the package scores in.
        run: finished.
        predictions: the run's out-of-fold table.
        probability: calibrated, shape (n, n_classes).
    """
    squares = run.squares(predictions)
    held_out = (predictions["fold"] == 0).to_numpy()
    novelty = fit_image_novelty(features, squares[spread_evenly(np.flatnonzero(~held_out))])
    distance = np.full(len(predictions), np.nan)
    distance[held_out] = novelty.distance(features(squares[held_out]), squares[held_out])
    measures = measure_images(predictions, verified.read_table(run.folder.manifest), squares)
    images = reference_table(predictions, squares).assign(
        **dict(zip(run.outputs.probability_columns, probability.T, strict=True)), novelty=distance
    )
    return pd.concat([images, measures], axis=1), novelty


def fit_image_novelty(features: Features, squares: NDArray[np.uint8]) -> ImageNovelty:
    """Return the measure of novelty, fitted on training images, shape (n, size, size)."""
    return ImageNovelty(fit_novelty(features(squares)), fit_novelty(brightness_map(squares)))


def reference_table(predictions: pd.DataFrame, squares: NDArray[np.uint8]) -> pd.DataFrame:
    """Return what identifies each image and holds no name of a patient or a file.

    Columns: image_id, fingerprint, group, fold, label.
    """
    return pd.DataFrame(
        {
            "image_id": predictions["image_id"],
            "fingerprint": [fingerprint(square) for square in squares],
            "group": predictions["group_id"].factorize()[0],  # a number: an id may name a patient
            "fold": predictions["fold"],
            "label": predictions["label"],
        }
    )


def spread_evenly(rows: NDArray[np.intp], n: int = N_NOVELTY) -> NDArray[np.intp]:
    """Return n of the rows, evenly spread; all where there are fewer."""
    return rows[np.linspace(0, len(rows) - 1, min(n, len(rows)), dtype=int)]
