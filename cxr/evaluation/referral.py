"""How predictions do where an image that fits no class, or several, is referred; see `cxr.metrics.conformal`.

Out of fold, the calibration and thresholds of each part (fold) are fitted on the other parts and applied to it
unchanged. On a test set they are those that a package would have: fitted on all out-of-fold predictions, and applied to
the mean of the folds' probabilities.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr.classes import Classes
from cxr.evaluation.findings import FindingsOutOfFold, for_each_finding, label_as_two_classes
from cxr.evaluation.out_of_fold import OutOfFold
from cxr.evaluation.subgroups import subgroups
from cxr.metrics.bootstrap import Floats, Replicates, percentile_interval
from cxr.metrics.conformal import fit_referral

LEVELS = (0.02, 0.05, 0.1, 0.2)
"""Shares of each class that may be wrongly excluded, for which reports say what that costs."""
COLUMNS = {
    "refer": "float64",
    "subgroup": "str",
    "level": "str",
    "label": "str",
    "metric": "str",
    "value": "float64",
    "ci_low": "float64",
    "ci_high": "float64",
    "n": "int64",
    "reason": "str",
}
TOO_FEW = "a class has too few patients for this level"
NO_IMAGE = "there is no such image"


@dataclass(frozen=True)
class _Answered:
    """Images, and which classes fit them."""

    fits: NDArray[np.bool_] | None
    """Shape (n, n_classes); None if a class has too few patients for thresholds."""
    target: NDArray[np.int64]
    """Index of each image's class, shape (n,)."""
    classes: Classes
    replicates: Replicates

    def rows(self, inside: NDArray[np.bool_]) -> list[dict[str, Any]]:
        """Return label, metric, value, ci_low, ci_high, n and reason, for the images of a mask of shape (n,)."""
        names = [*_names(self.classes)]
        if self.fits is None:
            return [
                {"label": label, "metric": metric, "n": int((inside & self._has(label)).sum())} | _undefined(TOO_FEW)
                for label, metric in names
            ]
        parts = [self._share(self.fits, label, metric, inside) for label, metric in names]
        replicates = self._replicates(parts, inside)
        return [
            {"label": label, "metric": metric, "n": int((of > 0).sum())} | _estimate(counted, of, drawn)
            for (label, metric), (counted, of), drawn in zip(names, parts, replicates, strict=True)
        ]

    def _has(self, label: str | None) -> NDArray[np.bool_]:
        if label is None:
            return np.full(len(self.target), fill_value=True)
        return self.target == self.classes.index(label)

    def _share(
        self, fits: NDArray[np.bool_], label: str | None, metric: str, inside: NDArray[np.bool_]
    ) -> tuple[Floats, Floats]:
        """Return the weight with which each image counts, and with which it could, each of shape (n,)."""
        among = (inside & self._has(label)).astype(float)
        own_fits = fits[np.arange(len(fits)), self.target]
        n_fitting = fits.sum(axis=1)
        if metric == "error":
            among = among * (n_fitting == 1)
        elif metric == "coverage_of_patients":
            per_patient = np.bincount(self.replicates.group, among)[self.replicates.group]
            among = np.divide(among, per_patient, out=np.zeros_like(among), where=among > 0)
        counted = {
            "coverage": own_fits,
            "coverage_of_patients": own_fits,
            "referred": n_fitting != 1,
            "fits_none": n_fitting == 0,
            "error": ~own_fits,
        }
        return among * counted[metric], among

    def _replicates(self, parts: list[tuple[Floats, Floats]], inside: NDArray[np.bool_]) -> Floats:
        """Return each share in every replicate of the patients, shape (n_shares, R); NaN for a single patient."""
        group, drawn_RG = self.replicates.group, self.replicates.drawn
        if len(np.unique(group[inside])) < 2:
            return np.full((len(parts), len(drawn_RG)), np.nan)
        n_groups = drawn_RG.shape[1]
        sums_GS = np.stack([np.bincount(group, weights, n_groups) for part in parts for weights in part], axis=1)
        drawn_RS = drawn_RG @ sums_GS
        with np.errstate(invalid="ignore"):
            return (drawn_RS[:, 0::2] / drawn_RS[:, 1::2]).T


def _names(classes: Classes) -> Iterator[tuple[str | None, str]]:
    """Yield the label and metric of each row: of all images, and of those of each class."""
    for metric in ("referred", "fits_none", "error"):
        yield None, metric
    for label in classes:
        for metric in ("coverage", "coverage_of_patients", "referred", "fits_none", "error"):
            yield label, metric


def _estimate(counted: Floats, among: Floats, drawn: Floats) -> dict[str, Any]:
    if not among.any():
        return _undefined(NO_IMAGE)
    low, high = percentile_interval(drawn)
    return {"value": float(counted.sum() / among.sum()), "ci_low": low, "ci_high": high, "reason": None}


def _undefined(reason: str) -> dict[str, Any]:
    return {"value": np.nan, "ci_low": np.nan, "ci_high": np.nan, "reason": reason}


def fits_out_of_fold(images: OutOfFold, level: float) -> NDArray[np.bool_] | None:
    """Return which classes fit each image, shape (n, n_classes), at thresholds of the other parts (folds).

    None if the others have too few patients of a class.
    """
    fits = np.zeros(images.logits.shape, dtype=bool)
    for part, calibration in images.calibrations.items():
        own = images.part == part
        probability = calibration.probability(images.logits)
        referral = fit_referral(probability[~own], images.target[~own], images.group[~own], level)
        if not referral.is_defined:
            return None
        fits[own] = referral.fits(probability[own])
    return fits


def referral_rates(images: OutOfFold, level: float) -> list[dict[str, Any]]:
    """Return the rows of `referral_table` for one level and all images, without the columns that say which."""
    answered = _Answered(fits_out_of_fold(images, level), images.target, images.classes, images.replicates)
    return answered.rows(np.full(len(images.target), fill_value=True))


def referral_table(images: OutOfFold, manifest: pd.DataFrame) -> pd.DataFrame:
    """Return what referring costs and gains: of all images and of subgroups, one row per level, label and metric.

    Columns: refer (the share of each class that may be wrongly excluded), subgroup and level (as in `subgroup_table`;
    missing for all images), label (the true class; missing for all), metric, value, ci_low, ci_high, n (images that the
    value is a share of), reason. Metrics: `coverage`, the share of a class that the class fits; `coverage_of_patients`,
    the same with each patient counted once; `referred`; `fits_none`, the part of it that no class fits; `error`, of the
    images that are not referred the share that is wrong.

    Args:
        images: out of fold.
        manifest: of these images, with what divides them into subgroups.
    """
    everything = np.full(len(images.target), fill_value=True)
    positive = images.target == 1 if images.is_binary else ~everything
    parts = [(None, None, everything), *subgroups(images, manifest, positive)]
    rows: list[dict[str, Any]] = []
    for refer in LEVELS:
        answered = _Answered(fits_out_of_fold(images, refer), images.target, images.classes, images.replicates)
        for subgroup, level, inside in parts:
            where = {"refer": refer, "subgroup": subgroup, "level": level}
            rows += [where | row for row in answered.rows(inside)]
    return _as_table(rows)


def outside_referral_table(predictions: pd.DataFrame, internal: OutOfFold | FindingsOutOfFold) -> pd.DataFrame:
    """Return the rows of `referral_table` for a test set, without subgroups; with findings, of each.

    Args:
        predictions: of the test set, with calibrated probabilities, the mean over folds; columns label or
            finding_<name>, group_id and probability_<class>.
        internal: the out-of-fold predictions that thresholds come from.
    """
    if isinstance(internal, OutOfFold):
        return _outside_table(predictions, internal)

    def of(images: OutOfFold) -> dict[str, pd.DataFrame]:
        name = images.classes[1]
        own = label_as_two_classes(predictions, internal.findings, name)
        absent, _ = images.classes.probability_columns
        return {"referral": _outside_table(own.assign(**{absent: 1 - own[f"probability_{name}"]}), images)}

    return for_each_finding(internal, of)["referral"]


def _outside_table(predictions: pd.DataFrame, internal: OutOfFold) -> pd.DataFrame:
    classes = internal.classes
    target = predictions["label"].map({name: k for k, name in enumerate(classes)}).to_numpy().astype(np.int64)
    probability = predictions[classes.probability_columns].to_numpy(float)
    inside = internal.calibration.probability(internal.logits)
    replicates = Replicates.of(predictions["group_id"])
    rows = []
    for refer in LEVELS:
        referral = fit_referral(inside, internal.target, internal.group, refer)
        fits = referral.fits(probability) if referral.is_defined else None
        answered = _Answered(fits, target, classes, replicates)
        where = {"refer": refer, "subgroup": None, "level": None}
        rows += [where | row for row in answered.rows(np.full(len(target), fill_value=True))]
    return _as_table(rows)


def _as_table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
