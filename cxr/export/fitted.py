"""The calibration and thresholds that a package is made with, and where they come from."""

from dataclasses import dataclass
from typing import Any

from cxr.classes import Classes, Findings
from cxr.config import OperatingPoint
from cxr.errors import ConfigError, PackageError
from cxr.evaluation.findings import FindingsOutOfFold
from cxr.evaluation.out_of_fold import OutOfFold
from cxr.metrics.calibration import Calibration, CalibrationOfFindings, prior_shift, shift_thresholds


@dataclass(frozen=True)
class Fitted:
    """A calibration with its thresholds."""

    calibration: Calibration
    thresholds: dict[OperatingPoint, float]
    """Empty for more than two classes."""
    origin: dict[str, Any]
    """`thresholds_from` of package.json; see `cxr.serving.origin`."""


@dataclass(frozen=True)
class FittedFindings:
    """The calibration of several findings with the thresholds of each."""

    calibration: CalibrationOfFindings
    thresholds: dict[str, dict[OperatingPoint, float]]
    origin: dict[str, Any]
    """`thresholds_from` of package.json, with the prevalence of each finding."""


def fit(out_of_fold: OutOfFold | FindingsOutOfFold, prevalence: float | None) -> Fitted | FittedFindings:
    """Return what is fitted on out-of-fold predictions.

    Args:
        out_of_fold: of a run with classes, or with findings.
        prevalence: of the positive class, of two, where the model will be used; None for that of the images.
    """
    if isinstance(out_of_fold, FindingsOutOfFold):
        return fit_findings(out_of_fold)
    return fit_out_of_fold(out_of_fold, prevalence)


def fit_out_of_fold(out_of_fold: OutOfFold, prevalence: float | None) -> Fitted:
    """Return what is fitted on out-of-fold predictions, for the prevalence of their images or for a stated one."""
    own = float((out_of_fold.target == 1).mean()) if out_of_fold.is_binary else None
    origin = {"source": "out_of_fold", "prevalence": own, "stated_prevalence": None}
    fitted = Fitted(out_of_fold.calibration, out_of_fold.thresholds, origin)
    return fitted if prevalence is None else at_prevalence(fitted, prevalence)


def fit_findings(out_of_fold: FindingsOutOfFold) -> FittedFindings:
    """Return what is fitted on out-of-fold predictions of findings, each on the images where it is known."""
    shares = {name: float((images.target == 1).mean()) for name, images in out_of_fold.by_finding.items()}
    origin = {"source": "out_of_fold", "prevalence": None, "stated_prevalence": None, "prevalence_of": shares}
    return FittedFindings(out_of_fold.calibration, out_of_fold.thresholds, origin)


def at_prevalence(fitted: Fitted, prevalence: float) -> Fitted:
    """Return a calibration and thresholds for another prevalence of the positive class, of two.

    Only how frequent the classes are is taken to differ, not what images of a class look like. So sensitivity and
    specificity stay, and the thresholds that are defined by them move with the probabilities; `half` stays 0.5.

    Args:
        fitted: for the prevalence of the images that it was fitted on.
        prevalence: above 0 and below 1.
    """
    offset = prior_shift(fitted.origin["prevalence"], prevalence)
    origin = fitted.origin | {"stated_prevalence": prevalence}
    return Fitted(fitted.calibration.shifted(offset), shift_thresholds(fitted.thresholds, offset), origin)


def require_prevalence(prevalence: float | None, classes: Classes | Findings) -> None:
    """Check a stated prevalence.

    Raises:
        ConfigError: it does not lie between 0 and 1.
        PackageError: there are more than two classes.
    """
    if prevalence is None:
        return
    if not 0 < prevalence < 1:
        raise ConfigError(f"--prevalence must lie between 0 and 1, and be neither, got {prevalence!r}.")
    if isinstance(classes, Findings):
        raise PackageError(
            "--prevalence needs two classes, and there are several findings, each with its own: leave it out."
        )
    if not classes.is_binary:
        raise PackageError(f"--prevalence needs two classes, and there are {len(classes)}: leave it out.")


def require_operating_point(point: OperatingPoint, classes: Classes | Findings) -> None:
    """Raise PackageError for an operating point other than youden where there are more than two classes.

    Each of several findings has all operating points.
    """
    if isinstance(classes, Classes) and not classes.is_binary and point != "youden":
        raise PackageError(f"--operating-point {point} needs two classes, and there are {len(classes)}: leave it out.")
