"""Calibration and thresholds from labelled images, and what a recalibrated version says about where they come from."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from cxr.export.fitted import Fitted
from cxr.metrics.bootstrap import Replicates
from cxr.metrics.calibration import calibration_errors, prior_shift
from cxr.metrics.recalibration import BIAS_SD, N_DRAWS, SLOPE_SD, Recalibrated, recalibrate
from cxr.recalibration.labelled_images import LabelledImages
from cxr.recalibration.labels import Labels
from cxr.serving.package import Package
from cxr.storage import files

METHOD = (
    "the log probabilities of each fold times one slope plus a bias per class, softmax, averaged over folds; slope and "
    f"biases of maximum a posteriori likelihood, with normal priors of standard deviation {SLOPE_SD:g} for the "
    f"logarithm of the slope and {BIAS_SD:g} for each bias; thresholds from the fitted probabilities; intervals of "
    f"95% from {N_DRAWS} bootstrap replicates of the patients, each fitted anew, and rates and errors of the images "
    "that a replicate did not draw"
)


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
    balanced = float(logit(start.class_calibration.balanced)) if classes.is_binary else 0.0
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
    return Fitted(found.map.after(start.class_calibration), found.thresholds, origin)


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
