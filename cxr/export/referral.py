"""The thresholds below which a class does not fit an image, as `refer` of package.json; see `cxr.metrics.conformal`."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr.classes import REFER, SEPARATOR, Classes, Findings
from cxr.errors import ConfigError, PackageError
from cxr.evaluation.findings import FindingsOutOfFold
from cxr.evaluation.out_of_fold import OutOfFold
from cxr.evaluation.referral import referral_rates
from cxr.export.fitted import Fitted, FittedFindings
from cxr.metrics.conformal import fit_referral, least_patients, patients_of_classes
from cxr.storage import verified
from cxr.training.run import Run

HIGHEST = 0.5
"""A level above would exclude a class from most of its own images."""


def require_level(level: float | None, outputs: Classes | Findings) -> None:
    """Check the share of each class that may be wrongly excluded.

    Raises:
        ConfigError: it does not lie above 0 and at 0.5 or below.
        PackageError: images have several findings, or an answer could be misread because of how a class is called.
    """
    if level is None:
        return
    if not 0 < level <= HIGHEST:
        raise ConfigError(f"--refer must lie above 0 and be at most {HIGHEST:g}, such as 0.1, got {level!r}.")
    if isinstance(outputs, Findings):
        raise PackageError("--refer needs one class for each image, and there are several findings: leave it out.")
    if unusable := [name for name in outputs if name == REFER or SEPARATOR in name]:
        raise PackageError(
            f"--refer answers with the name of a class or {REFER!r}, and separates classes by {SEPARATOR!r}: class "
            f"{unusable[0]!r} needs another name for that."
        )


def require_referable(run: Run, level: float) -> None:
    """Raise PackageError if a class of a run has too few patients for thresholds at this level."""
    require_enough(OutOfFold(verified.read_table(run.folder.predictions), run.classes), level)


def require_enough(images: OutOfFold, level: float) -> None:
    """Raise PackageError if a class has too few patients for thresholds at this level."""
    counts = patients_of_classes(images.target, images.group, len(images.classes))
    if (lacking := too_few(counts, images.classes, level)) is not None:
        possible = math.ceil(1000 / (min(counts) + 1)) / 1000
        way_out = f"give --refer {possible:g} or more" if possible <= HIGHEST else "leave it out"
        raise PackageError(
            f"--refer {level:g} needs {least_patients(level)} patients of each class, and {lacking}: {way_out}."
        )


def too_few(counts: Sequence[int], classes: Classes, level: float) -> str | None:
    """Return which class has how many patients, if these are too few for thresholds at this level; else None."""
    n, name = min(zip(counts, classes, strict=True))
    return f"there {'is' if n == 1 else 'are'} {n} of {name}" if n < least_patients(level) else None


def fit_refer(
    images: OutOfFold | FindingsOutOfFold, fitted: Fitted | FittedFindings, level: float | None
) -> dict[str, Any]:
    """Return what package.json says of referral: thresholds from all out-of-fold predictions, and how they did.

    Args:
        images: out of fold; each class has enough patients.
        fitted: the package's calibration.
        level: the share of each class that may be wrongly excluded; None, as for findings, where every image gets its
            class, and nothing is said.
    """
    if level is None or not (isinstance(images, OutOfFold) and isinstance(fitted, Fitted)):
        return {}
    probability = fitted.calibration.probability(images.logits)
    facts = referral_facts(probability, images.target, images.group, images.classes, level)
    rates = [_without_nan(row) for row in referral_rates(images, level)]
    return {"refer": facts | {"source": "out_of_fold", "rates": rates}}


def referral_facts(
    probability: NDArray[np.float64],
    target: NDArray[np.int64],
    group: NDArray[np.int64],
    classes: Classes,
    level: float,
) -> dict[str, Any]:
    """Return level, thresholds and n_patients, the last two by class.

    Args:
        probability: shape (n, n_classes), of the package, for images that it was not trained on.
        target: shape (n,), index of each image's class; each class has enough patients.
        group: shape (n,), index of each image's patient.
        classes: in output order.
        level: the share of each class that may be wrongly excluded.
    """
    referral = fit_referral(probability, target, group, level)
    counts = patients_of_classes(target, group, len(classes))
    return {
        "level": level,
        "thresholds": dict(zip(classes, referral.thresholds, strict=True)),
        "n_patients": dict(zip(classes, counts, strict=True)),
    }


def _without_nan(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row with None in place of NaN, which JSON has not."""
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in row.items()}
