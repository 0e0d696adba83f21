"""The findings of a run, each evaluated by itself: as its absence against its presence, wherever it is known.

Everything that is defined for two classes so holds for a finding: metrics, calibration, thresholds, curves, subgroups
and label suspects are those of a run with these two classes, whose logit of absence is 0. Intervals of all findings
come from the same draws of patients, so that their macro average has one as well.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from cxr.classes import MACRO, Classes, Findings
from cxr.config import OperatingPoint
from cxr.evaluation.out_of_fold import OutOfFold
from cxr.metrics.bootstrap import Floats, Replicates
from cxr.metrics.calibration import CalibrationOfFindings
from cxr.metrics.classification import COUNTS, NAMES, Value
from cxr.metrics.estimates import Estimates, average_estimates, estimate

NOWHERE_KNOWN = "no image in which the finding is known"


@dataclass(frozen=True)
class FindingsOutOfFold:
    """The out-of-fold table of a run with several findings per image."""

    predictions: pd.DataFrame
    findings: Findings

    @property
    def has_folds(self) -> bool:
        """Return whether it is known which fold held out each image."""
        return bool(self.predictions["fold"].notna().all())

    @cached_property
    def replicates(self) -> Replicates:
        """Draws of the images' groups, the same for every finding."""
        return Replicates.of(self.predictions["group_id"])

    @cached_property
    def by_finding(self) -> dict[str, OutOfFold]:
        """The predictions of each finding, in output order."""
        return {name: self.of(name) for name in self.findings}

    def of(self, name: str) -> OutOfFold:
        """Return the predictions of one finding on the images where it is known."""
        known = is_known(self.predictions, name)
        images = as_two_classes(self.predictions, self.findings, name).reset_index(drop=True)
        return OutOfFold(images, self.findings.against_absence(name), self.replicates.part(known))

    @property
    def logits(self) -> Floats:
        """Logits of the fold that never saw the image, shape (n, n_findings)."""
        return self.predictions[self.findings.logit_columns].to_numpy(float)

    @cached_property
    def calibration(self) -> CalibrationOfFindings:
        """The calibration of each finding, fitted on all images where it is known."""
        return CalibrationOfFindings(tuple(images.calibration for images in self.by_finding.values()))

    @property
    def thresholds(self) -> dict[str, dict[OperatingPoint, float]]:
        """The thresholds of each finding, chosen on all images where it is known."""
        return {name: images.thresholds for name, images in self.by_finding.items()}


def out_of_fold_of(predictions: pd.DataFrame, outputs: Classes | Findings) -> OutOfFold | FindingsOutOfFold:
    """Return the out-of-fold table of classes, or of several findings per image."""
    return FindingsOutOfFold(predictions, outputs) if isinstance(outputs, Findings) else OutOfFold(predictions, outputs)


def is_known(images: pd.DataFrame, name: str) -> np.ndarray:
    """Return whether a finding is known in each image, shape (n,)."""
    return images[Findings([name]).columns[0]].notna().to_numpy(bool)


def label_as_two_classes(images: pd.DataFrame, findings: Findings, name: str) -> pd.DataFrame:
    """Return the images in which a finding is known, with it or its absence as label and without other findings.

    Args:
        images: columns finding_<name>, and any others.
        findings: of the run.
        name: of the finding.
    """
    absent, present = findings.against_absence(name)
    known = images[is_known(images, name)]
    label = known[Findings([name]).columns[0]].map({True: present, False: absent}).astype("str")
    return known.drop(columns=findings.columns).assign(label=label)


def as_two_classes(images: pd.DataFrame, findings: Findings, name: str) -> pd.DataFrame:
    """Return the images in which a finding is known, labelled as in `label_as_two_classes`, with scores of both.

    Args:
        images: columns finding_<name>, logit_<name> and probability_<name>, and any others.
        findings: of the run.
        name: of the finding.
    """
    classes = findings.against_absence(name)
    known = label_as_two_classes(images, findings, name)
    logit, probability = known[f"logit_{name}"], known[f"probability_{name}"]
    table = known.drop(columns=[*findings.logit_columns, *findings.probability_columns])
    logits = dict(zip(classes.logit_columns, (0.0, logit), strict=True))
    return table.assign(**logits, **dict(zip(classes.probability_columns, (1 - probability, probability), strict=True)))


def estimates_by_finding(
    predictions: pd.DataFrame, findings: Findings, replicates: Replicates
) -> dict[str | None, Estimates]:
    """Return every metric of each finding, where it is known, and of `macro`, the mean over findings.

    A finding is predicted at probability 0.5. The macro average is undefined where the metric of one finding is.

    Args:
        predictions: columns finding_<name> and probability_<name>.
        findings: of the run.
        replicates: of the same images.
    """
    by_finding = {name: _estimate(predictions, name, replicates) for name in findings}
    return {**by_finding, MACRO: average_estimates(by_finding)}


def _estimate(predictions: pd.DataFrame, name: str, replicates: Replicates) -> Estimates:
    known = is_known(predictions, name)
    if not known.any():
        return _unknown(len(replicates.drawn))
    images = predictions[known]
    truth = images[Findings([name]).columns[0]].to_numpy(bool)
    probability = images[f"probability_{name}"].to_numpy(float)
    return estimate(truth, probability >= 0.5, probability, replicates.part(known))


def _unknown(n_replicates: int) -> Estimates:
    """Return the metrics of a finding that is known in no image."""
    values = {metric: Value(0) if metric in COUNTS else Value(np.nan, NOWHERE_KNOWN) for metric in NAMES}
    drawn = {metric: np.full(n_replicates, np.nan) for metric in NAMES if metric not in COUNTS}
    return Estimates(values, drawn)


def known_counts(images: pd.DataFrame, findings: Findings) -> dict[str | None, int]:
    """Return in how many images each finding is known; and any of them, as `macro`."""
    known = images[findings.columns].notna()
    counts = dict(zip(findings, known.sum().astype(int).tolist(), strict=True))
    return {**counts, MACRO: int(known.any(axis=1).sum())}


def count_present(images: pd.DataFrame, findings: Findings) -> pd.DataFrame:
    """Return one row per finding: class, n_known and n_present."""
    labels = images[findings.columns]
    return pd.DataFrame(
        {"class": list(findings), "n_known": labels.notna().sum().to_numpy(), "n_present": labels.sum().to_numpy(int)}
    )


def for_each_finding(
    images: FindingsOutOfFold, compute: Callable[[OutOfFold], dict[str, pd.DataFrame]]
) -> dict[str, pd.DataFrame]:
    """Return tables of all findings: those that `compute` returns for each, with the finding as `class`."""
    parts = [_named(compute(part), name) for name, part in images.by_finding.items()]
    return {name: pd.concat([part[name] for part in parts], ignore_index=True) for name in parts[0]}


def _named(tables: dict[str, pd.DataFrame], name: str) -> dict[str, pd.DataFrame]:
    """Return tables of two classes with the finding in every row's `class`, which comes first where it is new."""
    return {key: _with_class(table, name) for key, table in tables.items()}


def _with_class(table: pd.DataFrame, name: str) -> pd.DataFrame:
    if "class" in table:
        return table.assign(**{"class": name})
    return pd.concat([pd.Series(name, table.index, name="class", dtype="str"), table], axis=1)


def tables_of(tables: dict[str, pd.DataFrame], name: str) -> dict[str, pd.DataFrame]:
    """Return the rows of one finding of tables of all; tables without a class stay as they are."""
    return {key: rows_of(table, name) for key, table in tables.items()}


def rows_of(table: pd.DataFrame, name: str | None) -> pd.DataFrame:
    """Return the rows of one finding of a table of all, without an index; the whole table for a run of classes."""
    if name is None or "class" not in table:
        return table
    return table[table["class"] == name].reset_index(drop=True)
