"""What is in a recalibrated version: the files of the version before as hard links, and those that say how it predicts.

Whether bfloat16 may be used is decided anew: a steeper slope makes more of every rounding. A version with 8-bit
integers keeps them, because calibration and thresholds are fitted to what they give.

A version that refers images does so at thresholds from the labelled images, which no network was trained on. Where
these have too few patients of a class, the version refers no image, and says so: the thresholds of before belong to
other images and another calibration.
"""

import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr.export.description import describe
from cxr.export.fitted import Fitted
from cxr.export.onnx_export import export_onnx
from cxr.export.referral import referral_facts, too_few
from cxr.export.rounding import N_COMPARED, measure_rounding
from cxr.metrics.calibration import Calibration, average_folds, predict_labels
from cxr.metrics.conformal import least_patients, patients_of_classes
from cxr.metrics.recalibration import log_of
from cxr.network.onnx_graph import require_onnx
from cxr.recalibration.labelled_images import LabelledImages
from cxr.serving.networks import PackagedNetworks
from cxr.serving.package import Package
from cxr.storage import files
from cxr.storage.model_folder import PackageFolder

log = logging.getLogger(__name__)


def require_writable(start: Package) -> None:
    """Raise ConfigError if a version has an ONNX graph, which cannot be written here."""
    if start.folder.onnx.exists():
        require_onnx(f"recalibrating version {start.version}, which has a model.onnx,")


def write_recalibrated(
    folder: PackageFolder,
    version: str,
    start: Package,
    fitted: Fitted,
    labelled: LabelledImages,
    identity: Mapping[str, Any],
    cache: Path,
) -> None:
    """Write every file of a recalibrated version into its folder.

    Args:
        folder: empty.
        version: of the package.
        start: the version that is recalibrated.
        fitted: the new calibration and thresholds.
        labelled: the images that they were fitted to.
        identity: what is packaged, and how.
        cache: not written to.
    """
    _link(start, folder)
    networks = PackagedNetworks(folder, len(start.classes), start.n_folds, start.trainable, "a package in the making")
    point = identity["operating_point"]
    threshold = fitted.thresholds.get(point, 0.5)
    files.write_table(folder.images, _predicted_anew(start, fitted.calibration, threshold))
    if start.folder.onnx.exists():
        export_onnx(folder.onnx, networks, start.size, fitted.calibration)
    own = {
        "version": version,
        "identity": identity,
        "made_at": files.now(),
        "calibration": start.facts["calibration"] | asdict(fitted.calibration),
        "thresholds": fitted.thresholds,
        "thresholds_from": fitted.origin,
        "operating_point": point,
        "bfloat16": _bfloat16(start, networks, fitted.calibration, labelled, cache),
    }
    kept = {name: value for name, value in start.facts.items() if name not in ("refer", "pulled")}
    describe(folder, kept | own | _referral(start, fitted.calibration, labelled))


def _referral(start: Package, calibration: Calibration, labelled: LabelledImages) -> dict[str, Any]:
    """Return `refer` of package.json, or `refer_dropped` for too few patients; nothing if no image was referred."""
    if start.referral is None:
        return {}
    classes, level = start.classes, start.referral.level
    target = np.array([classes.index(label) for label in labelled.table["label"]], dtype=np.int64)
    group = labelled.table["group"].factorize()[0].astype(np.int64)
    counts = patients_of_classes(target, group, len(classes))
    if (lacking := too_few(counts, classes, level)) is not None:
        log.warning(
            "this version refers no image: thresholds for --refer %g need %d patients of each class, and %s",
            level,
            least_patients(level),
            lacking,
        )
        return {"refer_dropped": {"level": level, "n_patients": dict(zip(classes, counts, strict=True))}}
    probability, _ = average_folds(calibration, _logits(start, labelled.log_probability))
    return {"refer": referral_facts(probability, target, group, classes, level) | {"source": "labelled_images"}}


def _logits(start: Package, log_probability: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the logits that a version's calibration made log probabilities of, but for a constant of each image."""
    calibration = start.class_calibration
    return calibration.temperature * (log_probability - np.asarray(calibration.bias))


def _link(start: Package, folder: PackageFolder) -> None:
    """Give the files that do not depend on the calibration a name in the new version's folder."""
    source = start.folder
    written = {path.name for path in (source.description, source.card, source.checksums, source.images, source.onnx)}
    for path in source.path.iterdir():
        if path.name not in written:
            files.link(path, folder.path / path.name)


def _predicted_anew(start: Package, calibration: Calibration, threshold: float) -> pd.DataFrame:
    """Return the images that the model was made from, with the probabilities of another calibration."""
    images = start.images()
    columns = start.classes.probability_columns
    probability = calibration.probability(_logits(start, log_of(images[columns].to_numpy(float))))
    predicted = predict_labels(probability, start.classes, threshold)
    return images.assign(**dict(zip(columns, probability.T, strict=True)), predicted_label=predicted)


def _bfloat16(
    start: Package, networks: PackagedNetworks, calibration: Calibration, labelled: LabelledImages, cache: Path
) -> dict[str, Any]:
    """Return what bfloat16 costs: on the labelled images, or what it cost before if that is more."""
    measured = measure_rounding(networks, calibration, labelled.squares[:N_COMPARED], cache)
    return max(measured, start.facts["bfloat16"], key=lambda cost: cost["largest_probability_difference"])
