"""From a version of a model and labelled images of another site to the next version: the same networks, recalibrated.

A recalibration always starts from a version that was made from a run: images that were fitted before would otherwise
count twice.
"""

import hashlib
import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from cxr.config import OperatingPoint
from cxr.errors import PackageError
from cxr.export.fitted import Fitted, require_operating_point, require_prevalence
from cxr.export.labelled_images import LabelledImages, predict_labelled
from cxr.export.labels import Labels, read_labels
from cxr.export.recalibrated import require_writable, write_recalibrated
from cxr.export.versions import add_version
from cxr.metrics.bootstrap import Replicates
from cxr.metrics.calibration import calibration_errors, prior_shift
from cxr.metrics.recalibration import BIAS_SD, N_DRAWS, SLOPE_SD, Recalibrated, recalibrate
from cxr.serving.origin import recalibrated_from
from cxr.serving.package import Package, load_package
from cxr.storage import files
from cxr.storage.model_folder import ModelFolder, PackageFolder

log = logging.getLogger(__name__)

METHOD = (
    "the log probabilities of each fold times one slope plus a bias per class, softmax, averaged over folds; slope and "
    f"biases of maximum a posteriori likelihood, with normal priors of standard deviation {SLOPE_SD:g} for the "
    f"logarithm of the slope and {BIAS_SD:g} for each bias; thresholds from the fitted probabilities; intervals of "
    f"95 % from {N_DRAWS} bootstrap replicates of the patients, each fitted anew, and rates and errors of the images "
    "that a replicate did not draw"
)


def recalibrate_model(
    model: ModelFolder,
    package: Package,
    labels_file: Path,
    *,
    images: Path | None = None,
    operating_point: OperatingPoint | None = None,
    prevalence: float | None = None,
    device: str = "auto",
    cache: Path = Path("cache"),
) -> PackageFolder:
    """Write the next version of a model, with calibration and thresholds from labelled images; return its folder.

    The same labels, images and options give the same version.

    Args:
        model: the model.
        package: the version to start from; if it was recalibrated itself, the version that it was made from.
        labels_file: see `cxr.export.labels`.
        images: the folder that its paths are relative to; None for the file's own.
        operating_point: whose threshold decides the predicted class; None for the version's own.
        prevalence: of the positive class where the model will be used; None for that of the labelled images.
        device: cpu, cuda:<index>, or auto.
        cache: keeps compiled graphs.

    Raises:
        ConfigError: the prevalence is not between 0 and 1, a path is not usable, or an extra is missing.
        DataError: the labels or images are not usable, or too few.
        PackageError: more than two classes and an operating point other than youden, or a prevalence; or the version
            to start from is gone.
    """
    start = _made_from_a_run(model, package)
    point = operating_point or start.operating_point
    require_prevalence(prevalence, start.classes)
    require_operating_point(point, start.classes)
    require_writable(start)
    labels = read_labels(labels_file, images, start.classes)
    labelled = predict_labelled(start, labels, device=device, cache=cache)
    log.info("%d labelled images: %s", len(labelled.table), labelled.n_by_class(start.classes))
    identity = _identity(start, labels, labelled, point, prevalence)

    def write(folder: PackageFolder, version: str) -> None:
        fitted = fit_labelled(start, labels, labelled, prevalence)
        write_recalibrated(folder, version, start, fitted, labelled, identity, cache)

    return add_version(model, identity, write)


def _made_from_a_run(model: ModelFolder, package: Package) -> Package:
    version = recalibrated_from(package.facts)
    if version is None:
        return package
    if version not in model.versions():
        raise PackageError(
            f"version {package.version} of {model.name} was recalibrated from version {version}, which is gone: "
            f"package its run again (`cxr package {package.facts['run_id']} --name {model.name}`) and recalibrate that."
        )
    log.info("version %s was itself recalibrated: this starts from version %s, as it did", package.version, version)
    return load_package(model.version(version))


def _identity(
    start: Package, labels: Labels, labelled: LabelledImages, point: OperatingPoint, prevalence: float | None
) -> dict[str, Any]:
    ids = "\n".join(sorted(labelled.table["image_id"]))
    recalibrated = {
        "package": start.file_hash,
        "labels": labels.sha256,
        "images": hashlib.sha256(ids.encode()).hexdigest(),
        "prevalence": prevalence,
    }
    return start.facts["identity"] | {"operating_point": point, "recalibrated": recalibrated}


def fit_labelled(start: Package, labels: Labels, labelled: LabelledImages, prevalence: float | None) -> Fitted:
    """Return the calibration and thresholds that are fitted to labelled images.

    Args:
        start: the version that predicted the images.
        labels: the file.
        labelled: its images.
        prevalence: of the positive class where the model will be used; None for that of the labelled images.
    """
    classes = start.classes
    target = np.array([classes.index(label) for label in labelled.table["label"]], dtype=np.int64)
    own = float((target == 1).mean()) if classes.is_binary else None
    offset = 0.0 if own is None or prevalence is None else prior_shift(own, prevalence)
    balanced = float(logit(start.calibration.balanced)) if classes.is_binary else 0.0
    replicates = Replicates.of(labelled.table["group"])
    found = recalibrate(labelled.log_probability, target, replicates, balanced, offset)
    before = np.exp(labelled.log_probability).mean(axis=0)
    errors_before = calibration_errors(before, target)
    origin = {
        "source": "labelled_images",
        "version": start.version,
        "package": start.file_hash,
        "labels": labels.sha256,
        "at": files.now(),
        "n_images": labelled.n_by_class(classes),
        "n_patients": labelled.n_patients,
        "left_out": labelled.left_out,
        "prevalence": own,
        "stated_prevalence": prevalence,
        "method": METHOD,
        "slope": found.map.slope,
        "bias": found.map.bias,
        "errors": {"before": {name: errors_before[name] for name in found.errors}, "after": found.errors},
        "operating_points": _operating_points(start, found, before, target),
    }
    return Fitted(found.map.after(start.calibration), found.thresholds, origin)


def _operating_points(
    start: Package, found: Recalibrated, before: NDArray[np.float64], target: NDArray[np.int64]
) -> list[dict[str, Any]]:
    """Return one row per operating point; none for more than two classes.

    operating_point, threshold, ci_low, ci_high; sensitivity and specificity on images that were not fitted;
    sensitivity_before and specificity_before, of the version that is recalibrated, on all labelled images.

    Args:
        start: that version.
        found: what was fitted.
        before: the version's probabilities of the labelled images, shape (n, n_classes).
        target: index of each image's class, shape (n,).
    """
    rows = []
    for point, threshold in found.thresholds.items():
        low, high = found.intervals[point]
        is_positive = before[:, 1] >= start.thresholds[point]
        rates = {
            "sensitivity_before": float(is_positive[target == 1].mean()),
            "specificity_before": float(1 - is_positive[target == 0].mean()),
        }
        where = {"operating_point": point, "threshold": threshold, "ci_low": low, "ci_high": high}
        rows.append(where | found.rates[point] | rates)
    return rows
